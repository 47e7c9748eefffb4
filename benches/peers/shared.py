"""Weights, inputs and data of both sides: written by the peer's side when they are not there yet, read by both."""

import os

from safetensors.torch import load_file, save_file


def written_once(folder, name, make):
    """The tensors of a file both sides read; made by whoever comes first."""
    path = os.path.join(folder, name)
    if not os.path.exists(path):
        os.makedirs(folder, exist_ok=True)
        save_file({k: v.contiguous() for k, v in make().items()}, path + ".part")
        os.rename(path + ".part", path)
    return load_file(path)


def written_folder(folder, name, make):
    """A folder of files both sides read; `make` fills it."""
    path = os.path.join(folder, name)
    if not os.path.isdir(path):
        os.makedirs(path + ".part", exist_ok=True)
        make(path + ".part")
        os.rename(path + ".part", path)
    return path
