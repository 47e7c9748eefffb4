"""Row 3, end to end: DDIM with classifier-free guidance by diffusers' DiTTransformer2DModel and DDIMScheduler.

The loop is that of diffusers' DiTPipeline, from noise to latents, without its decoder.
"""

import json
import os

import torch
from diffusers import DDIMScheduler, DiTTransformer2DModel

from networks import autocast, inputs, randomise, waited
from shared import written_once


def published(network):
    """As converted checkpoints are: the embedding of time and label is one, of which every block has a copy."""
    first = randomise(network).transformer_blocks[0].norm1.emb.state_dict()
    for block in network.transformer_blocks:
        block.norm1.emb.load_state_dict(first)
    return network


def ddim(ask):
    torch.set_num_threads(ask["threads"])
    size = ask["size"]
    network = DiTTransformer2DModel.from_config(size["config"])
    os.makedirs(ask["folder"], exist_ok=True)
    with open(os.path.join(ask["folder"], "config.json"), "w", encoding="utf-8") as file:
        json.dump(size["config"], file)
    network.load_state_dict(written_once(ask["folder"], "weights.safetensors", lambda: published(network).state_dict()))
    network.eval().to(ask["device"])
    batch = inputs(ask)
    start, y = batch["x"], batch["y"]
    labels = torch.cat([y, torch.full_like(y, size["classes"])])
    called = network
    if ask["compile"] != "eager":
        torch._dynamo.reset()
        called = torch.compile(network, mode=None if ask["compile"] == "default" else ask["compile"])
    scheduler = DDIMScheduler(1000, 1e-4, 0.02, clip_sample=False)

    def run():
        scheduler.set_timesteps(ask["steps"])
        with torch.inference_mode(), autocast(ask):
            x = start
            for t in scheduler.timesteps:
                both = torch.cat([x, x])
                times = t.to(x.device).expand(both.shape[0])
                eps = called(both, timestep=times, class_labels=labels, return_dict=False)[0].float()
                with_label, without = eps.chunk(2)
                eps = without + ask["guidance"] * (with_label - without)
                x = scheduler.step(eps, t, x, return_dict=False)[0]
        waited(ask)
        return x

    return run, lambda: run().flatten().tolist()
