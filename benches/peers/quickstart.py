"""Row 4a, the script: the quickstart's recipe as diffusers' example of unconditional training would have it, with classes.

    quickstart.py RECIPE SETTINGS

RECIPE is the quickstart's own; SETTINGS a JSON file of what this run is given besides: data, out, images, unet, precision.
"""

import json
import os
import sys
import tomllib

import torch
import torch.nn.functional as F
from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel
from diffusers.optimization import get_scheduler
from diffusers.training_utils import EMAModel
from diffusers.utils import make_image_grid
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.transforms import Compose, Normalize, ToTensor

from first_picture import draw, pictures

LABEL_DROPOUT = 0.1
WINDOWS = 4
COLUMNS = 10
PICTURES = 40


def main(recipe, settings):
    with open(recipe, "rb") as file:
        recipe = tomllib.load(file)
    with open(settings, encoding="utf-8") as file:
        given = json.load(file)
    table, sample = recipe["train"], recipe["sample"]
    batch, images = table["batch"], given["images"]
    steps = -(-images // batch)
    torch.manual_seed(recipe["seed"])

    data = ImageFolder(given["data"], Compose([ToTensor(), Normalize([0.5] * 3, [0.5] * 3)]))
    loader = DataLoader(data, batch, shuffle=True, drop_last=True, num_workers=2, persistent_workers=True)
    unet = UNet2DModel(**given["unet"])
    null = unet.config.num_class_embeds - 1
    halflife = table["ema_halflife_images"] * images // table["images"]
    average = EMAModel(
        unet.parameters(), decay=0.5 ** (batch / halflife), model_cls=UNet2DModel, model_config=unet.config, foreach=True
    )
    scheduler = DDPMScheduler(1000)
    optimizer = torch.optim.AdamW(unet.parameters(), lr=table["lr"], weight_decay=0.0, fused=True)
    warmup = table["warmup_images"] * images // table["images"] // batch
    rate = get_scheduler("cosine", optimizer, num_warmup_steps=warmup, num_training_steps=steps)

    losses, done = [], 0
    while done < steps:
        for x, y in loader:
            eps = torch.randn_like(x)
            t = torch.randint(0, scheduler.config.num_train_timesteps, (x.shape[0],))
            y = torch.where(torch.rand(x.shape[0]) < LABEL_DROPOUT, null, y)
            noisy = scheduler.add_noise(x, eps, t)
            with torch.autocast("cpu", torch.bfloat16, enabled=given["precision"] == "bf16"):
                guess = unet(noisy, t, class_labels=y, return_dict=False)[0]
            loss = F.mse_loss(guess.float(), eps)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(unet.parameters(), 1.0)
            optimizer.step()
            rate.step()
            optimizer.zero_grad()
            average.step(unet.parameters())
            losses.append(loss.item())
            done += 1
            if done == steps:
                break

    average.copy_to(unet.parameters())
    unet.eval()
    DDPMPipeline(unet, scheduler).save_pretrained(given["out"])
    x = torch.randn(PICTURES, unet.config.in_channels, unet.config.sample_size, unet.config.sample_size)
    drawn = draw(unet, scheduler, x, torch.arange(PICTURES) % null, sample["steps"], sample["guidance"])
    make_image_grid(pictures(drawn), PICTURES // COLUMNS, COLUMNS).save(os.path.join(given["out"], "samples.png"))
    parts = torch.tensor(losses).chunk(WINDOWS)
    about = {"parameters": sum(p.numel() for p in unet.parameters()), "losses": [p.mean().item() for p in parts]}
    with open(os.path.join(given["out"], "about.json"), "w", encoding="utf-8") as file:
        json.dump(about, file)


if __name__ == "__main__":
    main(*sys.argv[1:])
