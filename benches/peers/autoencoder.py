"""Row 5: training steps of a fully connected variational autoencoder, in plain PyTorch and in pythae."""

import torch
import torch.nn.functional as F
from torch import nn

from networks import CHECKED_STEPS, LEARNING_RATE, autocast, waited
from shared import written_once


def layers(widths):
    """Linear layers with rectifiers between them, as `0`, `1`, ... of a ModuleList."""
    return nn.ModuleList(nn.Linear(a, b) for a, b in zip(widths, widths[1:]))


def through(layers, x):
    for layer in layers[:-1]:
        x = layer(x).relu()
    return layers[-1](x)


def widths(size):
    return [size["channels"] * size["side"] ** 2, *size["hidden"]]


class Vae(nn.Module):
    """Encoder to mean and log variance, decoder to logits; the loss is that of a batch, per picture."""

    def __init__(self, size):
        super().__init__()
        down = widths(size)
        self.encoder = layers([*down, 2 * size["latent"]])
        self.decoder = layers([size["latent"], *reversed(down)])
        # Draws that the check fixes.
        self.eps = None

    def forward(self, x):
        mean, log_var = through(self.encoder, x).chunk(2, 1)
        eps = torch.randn_like(mean) if self.eps is None else self.eps
        logits = through(self.decoder, mean + (0.5 * log_var).exp() * eps)
        distortion = F.binary_cross_entropy_with_logits(logits.float(), x, reduction="sum")
        rate = -0.5 * (1 + log_var - mean.square() - log_var.exp()).float().sum()
        return (distortion + rate) / x.shape[0]


def pythae_model(size):
    """pythae's VAE over the same layers."""
    from pythae.models import VAE, VAEConfig
    from pythae.models.base.base_utils import ModelOutput
    from pythae.models.nn import BaseDecoder, BaseEncoder

    down = widths(size)

    class Encoder(BaseEncoder):
        def __init__(self):
            BaseEncoder.__init__(self)
            self.layers = layers([*down, 2 * size["latent"]])

        def forward(self, x):
            mean, log_var = through(self.layers, x).chunk(2, 1)
            return ModelOutput(embedding=mean, log_covariance=log_var)

    class Decoder(BaseDecoder):
        def __init__(self):
            BaseDecoder.__init__(self)
            self.layers = layers([size["latent"], *reversed(down)])

        def forward(self, z):
            return ModelOutput(reconstruction=through(self.layers, z).sigmoid())

    class Called(VAE):
        """With a tensor in and the loss out, and draws that the check fixes."""

        eps = None

        def forward(self, x):
            return super().forward({"data": x}).loss

        def _sample_gauss(self, mu, std):
            if self.eps is None:
                return super()._sample_gauss(mu, std)
            return mu + std * self.eps, self.eps

    config = VAEConfig(input_dim=(down[0],), latent_dim=size["latent"], reconstruction_loss="bce")
    return Called(config, Encoder(), Decoder())


def inputs(ask):
    """Pictures of zeros and ones, and draws for the checked steps."""
    size, batch = ask["size"], ask["batch"]

    def make():
        generator = torch.Generator().manual_seed(1)
        pixels = widths(size)[0]
        return {
            "x": torch.bernoulli(torch.full((batch, pixels), 0.2), generator=generator),
            "eps": torch.randn((CHECKED_STEPS, batch, size["latent"]), generator=generator),
        }

    tensors = written_once(ask["folder"], f"inputs-{batch}.safetensors", make)
    return {k: v.to(ask["device"]) for k, v in tensors.items()}


def train(ask, make, rename=lambda name: name):
    torch.set_num_threads(ask["threads"])
    torch.manual_seed(0)
    model = make(ask["size"])
    weights = written_once(ask["folder"], "weights.safetensors", lambda: Vae(ask["size"]).state_dict())
    model.load_state_dict({rename(name): value for name, value in weights.items()})
    model.to(ask["device"]).train()
    batch = inputs(ask)
    called = model
    if ask["compile"] != "eager":
        torch._dynamo.reset()
        called = torch.compile(model, mode=None if ask["compile"] == "default" else ask["compile"])
    learned = list(model.parameters())
    optimizer = torch.optim.AdamW(learned, lr=LEARNING_RATE, weight_decay=0.0, fused=True)

    def run():
        with autocast(ask):
            loss = called(batch["x"])
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        waited(ask)
        return loss

    def check():
        """The losses of the first steps, then how far the weights went, in steps of full size times the first loss."""
        before = [p.detach().double().clone() for p in learned]
        losses = []
        for eps in batch["eps"]:
            model.eps = eps
            losses.append(run().item())
        model.eps = None
        moved = sum((p.detach().double() - q).square().sum().item() for p, q in zip(learned, before)) ** 0.5
        full = LEARNING_RATE * CHECKED_STEPS * sum(p.numel() for p in learned) ** 0.5
        return losses + [moved / full * losses[0]]

    return run, check


def vae_train(ask):
    return train(ask, Vae)


def pythae_train(ask):
    return train(ask, pythae_model, lambda name: name.replace("coder.", "coder.layers."))
