"""Row 6: two views of every picture, and BYOL's training step on them, from lightly's parts as its documentation joins them."""

import copy
import os

import numpy
import torch
from lightly.loss import NegativeCosineSimilarity
from lightly.models.modules.heads import BYOLPredictionHead, BYOLProjectionHead
from lightly.models.utils import deactivate_requires_grad, update_momentum
from lightly.transforms.multi_view_transform import MultiViewTransform
from lightly.utils.scheduler import cosine_schedule
from PIL import Image
from safetensors.torch import load_file
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import ColorJitter, Compose, Normalize, RandomHorizontalFlip, RandomResizedCrop, ToTensor

from loading import smooth
from networks import CHECKED_STEPS, waited
from shared import written_once

KERNEL = 4


class Pictures(Dataset):
    """A set in memory with a transform, as torchvision's CIFAR10 is one."""

    def __init__(self, pictures, transform):
        self.pictures = pictures
        self.transform = transform

    def __len__(self):
        return len(self.pictures)

    def __getitem__(self, i):
        return self.transform(Image.fromarray(self.pictures[i]))


def pictures(ask):
    """Bytes [N, H, W, C], from the file that our side reads too."""
    size, path = ask["size"], os.path.join(ask["folder"], "pictures.npz")
    if not os.path.exists(path):
        os.makedirs(ask["folder"], exist_ok=True)
        made = smooth(numpy.random.default_rng(0), size["items"], size["side"], size["channels"])
        numpy.savez(path + ".part.npz", arr_0=numpy.ascontiguousarray(made))
        os.rename(path + ".part.npz", path)
    return numpy.load(path)["arr_0"]


def loader(ask):
    """Batches of two views; what `Views` of ours does, in torchvision's words."""
    size, views = ask["size"], ask["size"]["config"]["views"]
    view = Compose(
        [
            RandomResizedCrop(size["side"], scale=views["area"], ratio=(1 / views["ratio"], views["ratio"])),
            RandomHorizontalFlip(views["flip"]),
            ColorJitter(brightness=views["jitter"], contrast=views["jitter"]),
            ToTensor(),
            Normalize([0.5] * size["channels"], [0.5] * size["channels"]),
        ]
    )
    data = Pictures(pictures(ask), MultiViewTransform([view, view]))
    return DataLoader(data, ask["batch"], shuffle=True, drop_last=True, num_workers=2, persistent_workers=True)


def views(ask):
    """One iteration is one pass over all items."""
    torch.set_num_threads(ask["threads"])
    torch.manual_seed(0)
    batches, size = loader(ask), ask["size"]
    shape = (ask["batch"], size["channels"], size["side"], size["side"])

    def run():
        return sum(x.shape[0] for x, _ in batches)

    def check():
        """Means over the pass of what the last line lists; shapes are this side's own affair, and wrong ones an error."""
        rows = []
        for v, w in batches:
            if v.shape != shape or w.shape != shape:
                raise ValueError(f"views of shapes {tuple(v.shape)} and {tuple(w.shape)}, not {shape}")
            a, b = (x.mean((1, 2, 3)) for x in (v, w))
            both = torch.cat([v, w])
            step = (both[..., 1:] - both[..., :-1]).abs().mean()
            shared = ((a - a.mean()) * (b - b.mean())).mean()
            brightness = torch.cat([a, b]).std()
            rows.append([both.min(), both.max(), both.mean(), both.std(), step, brightness, shared.clamp_min(0).sqrt()])
        return torch.tensor(rows).double().mean(0).tolist()

    return run, check


class Byol(nn.Module):
    """Online and momentum networks with lightly's heads over the encoder of our method."""

    def __init__(self, size):
        super().__init__()
        config = size["config"]
        widths = [size["channels"], *(config["width"] << i for i in range(config["depth"]))]
        convs = [nn.Conv2d(a, b, KERNEL, 2, 1) for a, b in zip(widths, widths[1:])]
        flat = widths[-1] * (size["side"] >> config["depth"]) ** 2
        relus = [layer for conv in convs for layer in (conv, nn.ReLU())]
        self.backbone = nn.Sequential(*relus, nn.Flatten(), nn.Linear(flat, config["features"]))
        hidden, projection = config["hidden"], config["projection"]
        self.projection_head = BYOLProjectionHead(config["features"], hidden, projection)
        self.prediction_head = BYOLPredictionHead(projection, hidden, projection)
        self.backbone_momentum = copy.deepcopy(self.backbone)
        self.projection_head_momentum = copy.deepcopy(self.projection_head)
        deactivate_requires_grad(self.backbone_momentum)
        deactivate_requires_grad(self.projection_head_momentum)

    def forward(self, x):
        return self.prediction_head(self.projection_head(self.backbone(x)))

    def forward_momentum(self, x):
        with torch.no_grad():
            return self.projection_head_momentum(self.backbone_momentum(x)).detach()

    def named(self, momentum=False):
        """Parameters under our names."""
        end = "_momentum" if momentum else ""
        backbone, projector = getattr(self, f"backbone{end}"), getattr(self, f"projection_head{end}")
        convs = [layer for layer in backbone if isinstance(layer, nn.Conv2d)]
        modules = {f"encoder.convs.{i}": conv for i, conv in enumerate(convs)} | {"encoder.out.0": backbone[-1]}
        heads = {"projector": projector} if momentum else {"projector": projector, "predictor": self.prediction_head}
        for name, head in heads.items():
            first, norm, _, second = head.layers
            modules |= {f"{name}.first": first, f"{name}.norm": norm, f"{name}.second": second}
        return {f"{name}.{leaf}": p for name, module in modules.items() for leaf, p in module.named_parameters()}


def weights(model, config):
    """All of them, and the biases before a normalisation that ours has and lightly leaves out: they change nothing."""
    named = {name: p.detach().clone() for name, p in model.named().items()}
    return named | {f"{head}.first.bias": torch.zeros(config["hidden"]) for head in ("projector", "predictor")}


def byol_train(ask):
    """One iteration is a pass over all items, so that no views are made ahead when it ends."""
    torch.set_num_threads(ask["threads"])
    torch.manual_seed(0)
    config = ask["size"]["config"]
    model = Byol(ask["size"])
    saved = written_once(ask["folder"], "weights.safetensors", lambda: weights(model, config))
    with torch.no_grad():
        for momentum in (False, True):
            for name, p in model.named(momentum).items():
                p.copy_(saved[name])
    model.to(ask["device"]).train()
    online, momentum = model.forward, model.forward_momentum
    if ask["compile"] != "eager":
        torch._dynamo.reset()
        mode = None if ask["compile"] == "default" else ask["compile"]
        online, momentum = (torch.compile(f, mode=mode) for f in (online, momentum))
    learned = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(learned, lr=config["lr"], weight_decay=0.0, fused=True)
    criterion = NegativeCosineSimilarity()
    batches, done, length = loader(ask), 0, config["images"] // ask["batch"]

    def step(v, w):
        nonlocal done
        v, w = v.to(ask["device"]), w.to(ask["device"])
        p0, z0 = online(v), momentum(v)
        p1, z1 = online(w), momentum(w)
        # Squared distances of directions, as the paper and ours have them: 2 - 2 cos for each of both views.
        loss = 4 + 2 * (criterion(p0, z1) + criterion(p1, z0))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        tau = cosine_schedule(min(done, length), length + 1, config["tau"], 1.0)
        update_momentum(model.backbone, model.backbone_momentum, m=tau)
        update_momentum(model.projection_head, model.projection_head_momentum, m=tau)
        done += 1
        waited(ask)
        return loss

    def run():
        for v, w in batches:
            step(v, w)

    def check():
        """Losses on the views our side has left, then how far the momentum networks went, in steps of full size."""
        path = os.path.join(ask["folder"], "views.safetensors")
        if not os.path.exists(path):
            raise FileNotFoundError(f"{path}: our side writes it at its own check, which comes first")
        given, followers = load_file(path), list(model.named(momentum=True).values())
        before = [p.double().clone() for p in followers]
        losses = [step(given[f"v{i}"], given[f"w{i}"]).item() for i in range(CHECKED_STEPS)]
        moved = sum((p.double() - q).square().sum().item() for p, q in zip(followers, before)) ** 0.5
        full = (1 - config["tau"]) * config["lr"] * CHECKED_STEPS * (CHECKED_STEPS + 1) / 2
        return losses + [moved / full / sum(p.numel() for p in followers) ** 0.5]

    return run, check
