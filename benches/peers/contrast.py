"""Row 6: views of pictures from files, and the step of BYOL on them, with lightly."""

import copy
import os

import torch
from lightly.data import LightlyDataset
from lightly.loss import NegativeCosineSimilarity
from lightly.models.modules.heads import BYOLPredictionHead, BYOLProjectionHead
from lightly.models.utils import deactivate_requires_grad, update_momentum
from lightly.transforms.multi_view_transform import MultiViewTransform
from safetensors.torch import load_file
from torch import nn
from torch.utils.data import DataLoader
from torchvision.transforms import ColorJitter, Compose, Normalize, RandomHorizontalFlip, RandomResizedCrop, ToTensor

from loading import png_folder
from networks import CHECKED_STEPS, autocast, waited
from shared import written_once

RATE = 1e-3
TAU = 0.99


def views(size):
    """Crop, mirror, brightness and contrast, twice, in the ranges of our side."""
    one = [
        RandomResizedCrop(size["side"], scale=(0.08, 1.0), ratio=(3 / 4, 4 / 3)),
        RandomHorizontalFlip(0.5),
        ColorJitter(brightness=0.4, contrast=0.4),
        ToTensor(),
        Normalize([0.5] * 3, [0.5] * 3),
    ]
    return MultiViewTransform([Compose(one), Compose(one)])


def loader(ask):
    data = LightlyDataset(png_folder(ask), transform=views(ask["size"]))
    return DataLoader(data, batch_size=ask["batch"], shuffle=True, drop_last=True, num_workers=2, persistent_workers=True)


def view_loader(ask):
    torch.set_num_threads(1)
    batches = loader(ask)

    def run():
        return sum(a.shape[0] + b.shape[0] for (a, b), _, _ in batches)

    def check():
        sums, n = [0.0, 0.0], 0
        for pair, _, _ in batches:
            for x in pair:
                sums = [sums[0] + x.double().sum().item(), sums[1] + x.double().square().sum().item()]
                n += x.numel()
        return [s / n for s in sums]

    return run, check


class Byol(nn.Module):
    """Encoder, projector and predictor with their targets, as in lightly's example."""

    def __init__(self, size):
        super().__init__()
        channels = [size["channels"], *(size["width"] << i for i in range(size["depth"]))]
        convs = [layer for a, b in zip(channels, channels[1:]) for layer in (nn.Conv2d(a, b, 4, 2, 1), nn.ReLU())]
        flat = channels[-1] * (size["side"] >> size["depth"]) ** 2
        width, hidden = size["latent"], size["hidden"][0]
        self.encoder = nn.Sequential(*convs, nn.Flatten(), nn.Linear(flat, width))
        self.projector = BYOLProjectionHead(width, hidden, width)
        self.predictor = BYOLPredictionHead(width, hidden, width)
        self.target_encoder = copy.deepcopy(self.encoder)
        self.target_projector = copy.deepcopy(self.projector)
        deactivate_requires_grad(self.target_encoder)
        deactivate_requires_grad(self.target_projector)
        self.criterion = NegativeCosineSimilarity()

    def forward(self, a, b):
        def seen(x):
            return self.predictor(self.projector(self.encoder(x)))

        with torch.no_grad():
            targets = [self.target_projector(self.target_encoder(x)) for x in (a, b)]
        # 2 - 2 cos of either pair.
        return 4 + 2 * (self.criterion(seen(a), targets[1]) + self.criterion(seen(b), targets[0]))

    def follow(self):
        update_momentum(self.encoder, self.target_encoder, m=TAU)
        update_momentum(self.projector, self.target_projector, m=TAU)


def our_names(model, size):
    """Weights under the names of our side; its linear layers before a normalisation have a bias, which that takes away."""
    out, hidden = {}, size["hidden"][0]
    convs = [m for m in model.encoder if isinstance(m, nn.Conv2d)]
    for i, conv in enumerate(convs):
        out |= {f"encoder.convs.{i}.weight": conv.weight, f"encoder.convs.{i}.bias": conv.bias}
    out |= {"encoder.out.0.weight": model.encoder[-1].weight, "encoder.out.0.bias": model.encoder[-1].bias}
    for name in ("projector", "predictor"):
        first, norm, _, second = getattr(model, name).layers
        out |= {
            f"{name}.first.weight": first.weight,
            f"{name}.first.bias": torch.zeros(hidden),
            f"{name}.norm.weight": norm.weight,
            f"{name}.norm.bias": norm.bias,
            f"{name}.second.weight": second.weight,
            f"{name}.second.bias": second.bias,
        }
    return {k: v.detach() for k, v in out.items()}


def byol_train(ask):
    torch.set_num_threads(ask["threads"])
    torch.manual_seed(0)
    size = ask["size"]
    model = Byol(size).train()
    # Drawn from one seed, so that every process has the weights that the file holds.
    written_once(ask["folder"], f"weights-{size['width']}.safetensors", lambda: our_names(model, size))
    model.to(ask["device"])
    shape = (CHECKED_STEPS, ask["batch"], size["channels"], size["side"], size["side"])
    generator = torch.Generator().manual_seed(1)
    written_once(ask["folder"], f"inputs-{ask['batch']}.safetensors", lambda: {"x": torch.rand(shape, generator=generator) * 2 - 1})
    called = model
    if ask["compile"] != "eager":
        torch._dynamo.reset()
        called = torch.compile(model, mode=None if ask["compile"] == "default" else ask["compile"])
    learned = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(learned, lr=RATE, weight_decay=0.0, fused=True)
    batches = loader(ask)

    def step(a, b):
        with autocast(ask):
            loss = called(a, b)
        loss.backward()
        nn.utils.clip_grad_norm_(learned, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        model.follow()
        return loss

    def run():
        for (a, b), _, _ in batches:
            step(a.to(ask["device"]), b.to(ask["device"]))
        waited(ask)

    def check():
        """Losses of the first steps on the views that our side leaves at its own check, which comes first."""
        views = load_file(os.path.join(ask["folder"], f"views-{ask['batch']}.safetensors"))["views"].to(ask["device"])
        fresh, moments = copy.deepcopy(model.state_dict()), copy.deepcopy(optimizer.state_dict())
        losses = [step(a, b).item() for a, b in zip(views[::2], views[1::2])]
        model.load_state_dict(fresh)
        optimizer.load_state_dict(moments)
        return losses

    return run, check
