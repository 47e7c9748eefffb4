"""A DiT in plain PyTorch, as a careful user writes it: fused queries, keys and values, scaled_dot_product_attention.

Parameter names are those of facebookresearch/DiT, which are also ours.
"""

import math

import torch
import torch.nn.functional as F
from torch import nn

WAVES = 256


def positions(side, width):
    """Fixed sines and cosines of column and row, [1, T, D]."""
    quarter = width // 4
    frequencies = 10000.0 ** (-torch.arange(quarter, dtype=torch.float64) / quarter)
    place = torch.arange(side, dtype=torch.float64)
    wave = place[:, None] * frequencies
    wave = torch.cat([wave.sin(), wave.cos()], 1)  # [side, D/2]
    column = wave[None].expand(side, side, -1)
    row = wave[:, None].expand(side, side, -1)
    return torch.cat([column, row], 2).reshape(1, side * side, width).float()


class TimeEmbedder(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(WAVES, width), nn.SiLU(), nn.Linear(width, width))
        half = WAVES // 2
        ramp = torch.exp(torch.arange(half, dtype=torch.float32) * (-math.log(10000.0) / half))
        self.register_buffer("frequencies", ramp, persistent=False)

    def forward(self, t):
        phase = t.float()[:, None] * self.frequencies
        return self.mlp(torch.cat([phase.cos(), phase.sin()], 1))


class LabelEmbedder(nn.Module):
    def __init__(self, classes, width):
        super().__init__()
        self.embedding_table = nn.Embedding(classes + 1, width)

    def forward(self, y):
        return self.embedding_table(y)


class Attention(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x):
        b, t, d = x.shape
        q, k, v = self.qkv(x).view(b, t, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        h = F.scaled_dot_product_attention(q, k, v)
        return self.proj(h.transpose(1, 2).reshape(b, t, d))


class Mlp(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)

    def forward(self, x):
        return self.fc2(F.gelu(self.fc1(x), approximate="tanh"))


def modulate(x, shift, scale):
    return torch.addcmul(shift[:, None], x, 1 + scale[:, None])


class Block(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.norm1 = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.norm2 = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.attn = Attention(width, heads)
        self.mlp = Mlp(width)
        self.adaLN_modulation = nn.Sequential(nn.Identity(), nn.Linear(width, 6 * width))

    def forward(self, x, e):
        m = self.adaLN_modulation(e).chunk(6, 1)
        x = torch.addcmul(x, m[2][:, None], self.attn(modulate(self.norm1(x), m[0], m[1])))
        return torch.addcmul(x, m[5][:, None], self.mlp(modulate(self.norm2(x), m[3], m[4])))


class Final(nn.Module):
    def __init__(self, width, outputs):
        super().__init__()
        self.norm = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.linear = nn.Linear(width, outputs)
        self.adaLN_modulation = nn.Sequential(nn.Identity(), nn.Linear(width, 2 * width))

    def forward(self, x, e):
        shift, scale = self.adaLN_modulation(e).chunk(2, 1)
        return self.linear(modulate(self.norm(x), shift, scale))


class Dit(nn.Module):
    """`size`: depth, width, heads, patch, channels, side (pixels), classes. SiLU is applied to the embedding once."""

    def __init__(self, size):
        super().__init__()
        width, self.patch, self.channels = size["width"], size["patch"], size["channels"]
        self.grid = size["side"] // self.patch
        self.x_embedder = nn.Module()
        self.x_embedder.proj = nn.Conv2d(self.channels, width, self.patch, stride=self.patch)
        self.t_embedder = TimeEmbedder(width)
        self.y_embedder = LabelEmbedder(size["classes"], width)
        self.register_buffer("pos_embed", positions(self.grid, width))
        self.blocks = nn.ModuleList(Block(width, size["heads"]) for _ in range(size["depth"]))
        self.final_layer = Final(width, self.patch * self.patch * self.channels)

    def forward(self, x, t, y):
        e = F.silu(self.t_embedder(t) + self.y_embedder(y))
        h = self.x_embedder.proj(x).flatten(2).transpose(1, 2) + self.pos_embed
        for block in self.blocks:
            h = block(h, e)
        h = self.final_layer(h, e)
        h = h.view(-1, self.grid, self.grid, self.patch, self.patch, self.channels).permute(0, 5, 1, 3, 2, 4)
        side = self.grid * self.patch
        return h.reshape(-1, self.channels, side, side)
