"""Row 7, loading: a folder of PNG files and an IDX pair through torchvision's data sets and torch's DataLoader."""

import os
import struct

import numpy
import torch
from PIL import Image
from torch.utils.data import DataLoader
from torchvision.datasets import MNIST, ImageFolder
from torchvision.transforms import Compose, Normalize, ToTensor

from shared import written_folder

CLASSES = 10


def smooth(generator, n, side, channels):
    """Pictures of a few waves each: they compress about as photographs do."""
    grid = numpy.arange(side) / side * 2 * numpy.pi
    a, b, phase = generator.uniform(-3, 3, (3, n, channels, 1, 1))
    waves = numpy.sin(a * grid[:, None] + b * grid[None, :] + phase) * 90 + generator.normal(0, 8, (n, channels, side, side))
    return (waves + 128).clip(0, 255).astype(numpy.uint8).transpose(0, 2, 3, 1)


def png_folder(ask):
    size = ask["size"]

    def make(path):
        pictures = smooth(numpy.random.default_rng(0), size["items"], size["side"], 3)
        for k in range(CLASSES):
            os.makedirs(os.path.join(path, f"class{k}"))
        for i, picture in enumerate(pictures):
            Image.fromarray(picture).save(os.path.join(path, f"class{i % CLASSES}", f"{i:06}.png"))

    return written_folder(ask["folder"], "png", make)


def idx_folder(ask):
    size = ask["size"]

    def make(path):
        raw = os.path.join(path, "MNIST", "raw")
        os.makedirs(raw)
        pictures = smooth(numpy.random.default_rng(0), size["items"], size["side"], 1)
        labels = numpy.arange(size["items"]) % CLASSES
        for half in ("train", "t10k"):
            with open(os.path.join(raw, f"{half}-images-idx3-ubyte"), "wb") as file:
                file.write(struct.pack(">4i", 0x803, size["items"], size["side"], size["side"]) + pictures.tobytes())
            with open(os.path.join(raw, f"{half}-labels-idx1-ubyte"), "wb") as file:
                file.write(struct.pack(">2i", 0x801, size["items"]) + labels.astype(numpy.uint8).tobytes())

    return written_folder(ask["folder"], "idx", make)


def passes(ask, data):
    """One iteration is one pass over all items, in order."""
    torch.set_num_threads(1)
    loader = DataLoader(data, batch_size=ask["batch"], num_workers=2, persistent_workers=True)

    def run():
        return sum(x.shape[0] for x, _ in loader)

    def check():
        sums = [(x.double().sum().item(), x.double().square().sum().item(), y.sum().item()) for x, y in loader]
        return [value for batch in sums for value in batch]

    return run, check


def png_loader(ask):
    transform = Compose([ToTensor(), Normalize([0.5] * 3, [0.5] * 3)])
    return passes(ask, ImageFolder(png_folder(ask), transform))


def idx_loader(ask):
    transform = Compose([ToTensor(), Normalize([0.5], [0.5])])
    return passes(ask, MNIST(idx_folder(ask), transform=transform))
