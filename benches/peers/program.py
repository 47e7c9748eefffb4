"""Row 4: whole programs as a user of diffusers writes them.

`python program.py train SETUP` and `python program.py picture SETUP` are the programs; the works launch them.
"""

import json
import os
import subprocess
import sys

# Share of labels that are dropped in training, as our side does by default.
DROPPED = 0.1


def network(size):
    from diffusers import UNet2DModel

    return UNet2DModel.from_config(size["config"])


def draw(model, scheduler, ask, labels):
    """Guided pictures in [-1, 1], both halves in one batch."""
    import torch

    n, size = len(labels), ask["size"]
    both = torch.tensor([*labels, *[size["classes"]] * n])
    x = torch.randn((n, size["channels"], size["side"], size["side"]))
    scheduler.set_timesteps(ask["steps"])
    with torch.no_grad():
        for t in scheduler.timesteps:
            told, untold = model(torch.cat([x, x]), t, class_labels=both).sample.chunk(2)
            x = scheduler.step(untold + ask["guidance"] * (told - untold), t, x).prev_sample
    return x.clamp(-1, 1)


def save(x, path):
    from PIL import Image

    rows = ((x + 1) * 127.5).round().byte().permute(0, 2, 3, 1).flatten(0, 1).numpy()
    Image.fromarray(rows).save(path)


def train(ask):
    """The training loop of diffusers' example for images, with labels."""
    import torch
    from accelerate import Accelerator
    from diffusers import DDIMScheduler, DDPMScheduler
    from diffusers.training_utils import EMAModel
    from torch.utils.data import DataLoader
    from torchvision.datasets import ImageFolder
    from torchvision.transforms import Compose, Normalize, ToTensor

    torch.set_num_threads(ask["threads"])
    accelerator = Accelerator(cpu=True)
    data = ImageFolder(os.path.join(ask["folder"], "png"), Compose([ToTensor(), Normalize([0.5] * 3, [0.5] * 3)]))
    loader = DataLoader(data, batch_size=ask["batch"], shuffle=True, drop_last=True, num_workers=2)
    model = network(ask["size"])
    ema = EMAModel(model.parameters(), decay=0.999)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.0, fused=True)
    model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
    scheduler = DDPMScheduler(num_train_timesteps=1000)
    steps = ask["size"]["items"] // ask["batch"]
    done = 0
    while done < steps:
        for x, y in loader:
            noise = torch.randn_like(x)
            t = torch.randint(0, 1000, (x.shape[0],))
            y = torch.where(torch.rand(y.shape) < DROPPED, ask["size"]["classes"], y)
            predicted = model(scheduler.add_noise(x, noise, t), t, class_labels=y).sample
            loss = torch.nn.functional.mse_loss(predicted, noise)
            accelerator.backward(loss)
            accelerator.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            ema.step(model.parameters())
            done += 1
            if done == steps:
                break
    model = accelerator.unwrap_model(model)
    ema.copy_to(model.parameters())
    model.eval().save_pretrained(os.path.join(ask["folder"], "peer"))
    classes = ask["size"]["classes"]
    pictures = draw(model, DDIMScheduler(num_train_timesteps=1000), ask, [i % classes for i in range(40)])
    save(pictures, os.path.join(ask["folder"], "peer.png"))


def picture(ask):
    import torch
    from diffusers import DDIMScheduler, UNet2DModel

    torch.set_num_threads(ask["threads"])
    model = UNet2DModel.from_pretrained(os.path.join(ask["folder"], "peer")).eval()
    save(draw(model, DDIMScheduler(num_train_timesteps=1000), ask, [0]), os.path.join(ask["folder"], "peer-picture.png"))


def launched(name, ask):
    subprocess.run([sys.executable, __file__, name, json.dumps(ask)], check=True, stdout=subprocess.DEVNULL)


def work(ask, name):
    from PIL import Image

    from loading import png_folder

    png_folder(ask)
    launched("train", ask)

    def run():
        launched(name, ask)

    def check():
        """Learned scalars, and the sides of a picture that it draws."""
        launched("picture", ask)
        parameters = sum(p.numel() for p in network(ask["size"]).parameters())
        with Image.open(os.path.join(ask["folder"], "peer-picture.png")) as drawn:
            return [parameters, *drawn.size]

    return run, check


def program_train(ask):
    return work(ask, "train")


def program_picture(ask):
    return work(ask, "picture")


if __name__ == "__main__":
    {"train": train, "picture": picture}[sys.argv[1]](json.loads(sys.argv[2]))
