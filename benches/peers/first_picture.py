"""Row 4b, the script: one picture from a saved pipeline.

    first_picture.py SAVED PICTURE STEPS GUIDANCE [NOISE]
"""

import sys

import torch
from diffusers import DDPMPipeline, DPMSolverMultistepScheduler
from PIL import Image
from safetensors.torch import load_file


@torch.inference_mode()
def draw(unet, scheduler, x, labels, steps, guidance):
    """DPM-Solver++ (2M) with classifier-free guidance; the last class stands for none."""
    solver = DPMSolverMultistepScheduler.from_config(scheduler.config, timestep_spacing="trailing")
    solver.set_timesteps(steps)
    labels = torch.cat([labels, torch.full_like(labels, unet.config.num_class_embeds - 1)])
    for t in solver.timesteps:
        both = unet(torch.cat([x, x]), t, class_labels=labels, return_dict=False)[0]
        with_label, without = both.chunk(2)
        x = solver.step(without + guidance * (with_label - without), t, x, return_dict=False)[0]
    return x


def pictures(x):
    """PIL's, of [B, C, H, W] in [-1, 1]."""
    bytes_ = (x * 127.5 + 127.5).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).numpy()
    return [Image.fromarray(picture) for picture in bytes_]


def main(saved, picture, steps, guidance, noise=None):
    pipeline = DDPMPipeline.from_pretrained(saved)
    unet = pipeline.unet.eval()
    side, channels = unet.config.sample_size, unet.config.in_channels
    x = torch.randn(1, channels, side, side) if noise is None else load_file(noise)["x"]
    x = draw(unet, pipeline.scheduler, x, torch.zeros(1, dtype=torch.long), int(steps), float(guidance))
    pictures(x)[0].save(picture)
    print("first picture", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
