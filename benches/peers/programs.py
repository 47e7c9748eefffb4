"""Row 4: whole programs, started anew for every iteration. The scripts are `quickstart.py` and `first_picture.py`."""

import json
import os
import shutil
import subprocess
import sys
import time
import tomllib

import numpy
from PIL import Image

from shared import Seconds, written_folder

HERE = os.path.dirname(os.path.abspath(__file__))
RECIPE = os.path.join(HERE, "..", "..", "recipes", "quickstart.toml")
# Points a side of a pixel at which an outline is looked up.
FINE = 8
RGB = {"red": (1, 0, 0), "green": (0, 1, 0), "blue": (0, 0, 1), "yellow": (1, 1, 0), "magenta": (1, 0, 1), "cyan": (0, 1, 1)}


def inside(shape, u, v, half):
    """Whether points lie in an outline of the area of a square with this half edge."""
    if shape == "square":
        return numpy.maximum(abs(u), abs(v)) < half
    if shape == "disc":
        return u**2 + v**2 < half**2 * 4 / numpy.pi
    if shape == "triangle":
        height = half * 2 * 3**0.25
        return (v < height / 3) & (abs(u) * 3**0.5 < v + height * 2 / 3)
    raise ValueError(f"no outline is called {shape}")


def recipe():
    with open(RECIPE, "rb") as file:
        return tomllib.load(file)


def sprites(ask):
    """Coloured shapes as the quickstart's world has them, a folder of PNG files for each class."""
    size, world = ask["size"], recipe()["data"]["sprites"]
    kinds = [(shape, colour) for shape in world["shapes"] for colour in world["colours"]]

    def make(path):
        generator, side = numpy.random.default_rng(0), size["side"]
        grid = (numpy.arange(side * FINE) + 0.5) / (side * FINE)
        for shape, colour in kinds:
            os.makedirs(os.path.join(path, f"{colour} {shape}"))
        for i in range(size["items"]):
            shape, colour = kinds[i % len(kinds)]
            half = generator.uniform(*world["scale"])
            x, y = generator.uniform(2 * half, 1 - 2 * half, 2) if half < 0.25 else (0.5, 0.5)
            covered = inside(shape, grid[None, :] - x, grid[:, None] - y, half)
            share = covered.reshape(side, FINE, side, FINE).mean((1, 3))[..., None]
            picture = share * RGB[colour] + (1 - share) * world["ground"]
            file = os.path.join(path, f"{colour} {shape}", f"{i:06}.png")
            Image.fromarray((picture * 255).round().astype(numpy.uint8)).save(file)

    return written_folder(ask["folder"], f"sprites-{size['items']}", make)


def known(ask):
    """Leaves the network's number of parameters for the checks of both sides."""
    from diffusers import UNet2DModel

    count = sum(p.numel() for p in UNet2DModel(**ask["size"]["config"]).parameters())
    with open(os.path.join(ask["folder"], "parameters.json"), "w", encoding="utf-8") as file:
        json.dump(count, file)
    return count


def started(script, *arguments):
    """A script in an interpreter of its own."""
    command = [sys.executable, os.path.join(HERE, script), *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def ended(process):
    process.stdout.read()
    if process.wait() != 0:
        raise RuntimeError(f"{process.args[1]} ended with {process.returncode}; see the log")


def quickstart_train(ask):
    data, out = sprites(ask), os.path.join(ask["folder"], "peer")
    count = known(ask)
    settings = os.path.join(ask["folder"], "settings.json")
    given = {"data": data, "out": out, "images": ask["size"]["items"], "unet": ask["size"]["config"]}
    with open(settings, "w", encoding="utf-8") as file:
        json.dump(given | {"precision": ask["precision"]}, file)

    def run():
        shutil.rmtree(out, ignore_errors=True)
        ended(started("quickstart.py", RECIPE, settings))

    def check():
        """The mean losses of the second to the last quarter of training."""
        run()
        with open(os.path.join(out, "about.json"), encoding="utf-8") as file:
            about = json.load(file)
        if about["parameters"] != count:
            raise ValueError(f"{about['parameters']} parameters were trained, not {count}")
        Image.open(os.path.join(out, "samples.png")).load()
        return about["losses"][1:]

    return run, check


def saved(ask):
    """A pipeline with random weights, as `save_pretrained` leaves it."""
    from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel

    from networks import randomise

    def make(path):
        DDPMPipeline(randomise(UNet2DModel(**ask["size"]["config"])), DDPMScheduler(1000)).save_pretrained(path)

    return written_folder(ask["folder"], "saved", make)


def quickstart_sample(ask):
    folder, sample = saved(ask), recipe()["sample"]
    picture = os.path.join(ask["folder"], "peer.png")
    arguments = [folder, picture, str(sample["steps"]), str(sample["guidance"])]

    def run(*noise):
        """Seconds until the picture lies on disk; the interpreter's own end is waited for, and not counted."""
        start = time.perf_counter()
        process = started("first_picture.py", *arguments, *noise)
        said = process.stdout.readline()
        seconds = time.perf_counter() - start
        ended(process)
        if not said.startswith("first picture"):
            raise RuntimeError(f"first_picture.py said {said!r}")
        return Seconds(seconds)

    def check():
        """The picture's bytes over 255, drawn from the noise that our side has left."""
        noise = os.path.join(ask["folder"], "start.safetensors")
        if not os.path.exists(noise):
            raise FileNotFoundError(f"{noise}: our side writes it at its own check, which comes first")
        run(noise)
        return (numpy.asarray(Image.open(picture)) / 255).flatten()

    return run, check
