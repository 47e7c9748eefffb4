"""Rows 1 to 3: forward passes and training steps of a DiT in plain PyTorch and of diffusers' UNet2DModel."""

import contextlib
import json
import os

import torch
import torch.nn.functional as F

from dit import Dit
from shared import written_once

LEARNING_RATE = 1e-4
EMA_WEIGHT = 0.05
CHECKED_STEPS = 5

# What a work keeps switched on until the next one is set up.
HELD = contextlib.ExitStack()


def randomise(network):
    """Every learned tensor drawn at a small scale: initial zeros would hide most of a network from the check."""
    generator = torch.Generator().manual_seed(0)
    for name, p in network.named_parameters():
        fan_in = p[0].numel() if p.dim() > 1 else 1
        value = torch.randn(p.shape, generator=generator)
        p.data = value / fan_in**0.5 if p.dim() > 1 else value * 0.05 + ("norm" in name and name.endswith("weight"))
    return network


def inputs(ask):
    """x, t, y and target of a batch."""
    size, batch = ask["size"], ask["batch"]

    def make():
        generator = torch.Generator().manual_seed(1)
        shape = (batch, size["channels"], size["side"], size["side"])
        return {
            "x": torch.randn(shape, generator=generator),
            "t": torch.randint(0, 1000, (batch,), generator=generator).float(),
            "y": torch.randint(0, size["classes"], (batch,), generator=generator),
            "target": torch.randn(shape, generator=generator),
        }

    tensors = written_once(ask["folder"], f"inputs-{batch}.safetensors", make)
    return {k: v.to(ask["device"]) for k, v in tensors.items()}


def dit(size):
    return Dit(size)


def unet(size):
    """UNet2DModel from its own config.json, which our side reads as well."""
    from diffusers import UNet2DModel

    class Called(UNet2DModel):
        """With a tensor in and a tensor out, as the DiT."""

        def forward(self, x, t, y):
            return super().forward(x, t, class_labels=y, return_dict=False)[0]

    return Called.from_config(size["config"])


def prepared(ask, make):
    """The network of a configuration, with the shared weights, and its batch."""
    HELD.close()
    torch.set_num_threads(ask["threads"])
    network = make(ask["size"])
    if "config" in ask["size"]:
        os.makedirs(ask["folder"], exist_ok=True)
        with open(os.path.join(ask["folder"], "config.json"), "w", encoding="utf-8") as file:
            json.dump(ask["size"]["config"], file)
    weights = written_once(ask["folder"], "weights.safetensors", lambda: randomise(network).state_dict())
    network.load_state_dict(weights)
    network.to(ask["device"])
    batch = inputs(ask)
    if ask["layout"] == "channels_last":
        network = network.to(memory_format=torch.channels_last)
        batch["x"] = batch["x"].contiguous(memory_format=torch.channels_last)
    called = network
    if ask["compile"] != "eager":
        torch._dynamo.reset()
        called = torch.compile(network, mode=None if ask["compile"] == "default" else ask["compile"])
    return network, called, batch


def autocast(ask):
    return torch.autocast(torch.device(ask["device"]).type, torch.bfloat16, enabled=ask["precision"] == "bf16")


def waited(ask):
    """Waits for what was queued: on the host nothing is."""
    if ask["device"].startswith("cuda"):
        torch.cuda.synchronize()


def forward(ask, make):
    network, called, batch = prepared(ask, make)
    network.eval()
    # Held through all passes, as in a sampling loop: weights are cast once.
    HELD.enter_context(autocast(ask))

    def run():
        with torch.inference_mode():
            y = called(batch["x"], batch["t"], batch["y"])
        waited(ask)
        return y

    return run, lambda: run().float().flatten().tolist()


def train(ask, make):
    network, called, batch = prepared(ask, make)
    network.train()
    learned = list(network.parameters())
    optimizer = torch.optim.AdamW(learned, lr=LEARNING_RATE, weight_decay=0.0, fused=True)
    average = [p.detach().clone() for p in learned]
    source = [p.detach() for p in learned]

    def run():
        with autocast(ask):
            loss = F.mse_loss(called(batch["x"], batch["t"], batch["y"]).float(), batch["target"])
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        torch._foreach_lerp_(average, source, EMA_WEIGHT)
        waited(ask)
        return loss

    def check():
        """The losses of the first steps, then how far the average went, in steps of full size: about 1."""
        before = [p.double() for p in average]
        losses = [run().item() for _ in range(CHECKED_STEPS)]
        moved = sum((p.double() - q).square().sum().item() for p, q in zip(average, before)) ** 0.5
        full = EMA_WEIGHT * LEARNING_RATE * CHECKED_STEPS * (CHECKED_STEPS + 1) / 2
        return losses + [moved / full / sum(p.numel() for p in learned) ** 0.5]

    return run, check


def dit_forward(ask):
    return forward(ask, dit)


def dit_train(ask):
    return train(ask, dit)


def unet_forward(ask):
    return forward(ask, unet)


def unet_train(ask):
    return train(ask, unet)
