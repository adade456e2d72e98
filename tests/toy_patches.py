"""Networks of few operations, for tests of what is done with a network's gradients and state."""

from typing import ClassVar

import jax
from flax import linen

SIDE = 2  # pixels


class PatchEncoder(linen.Module):
    """Two dense layers on each patch of 2 x 2 pixels."""

    latent_channels: int

    @linen.compact
    def __call__(self, images, *, train=False):
        """Pictures [B, H, W, C] to latents [B, H / 2, W / 2, D]."""
        batch, height, width, channels = images.shape
        patches = images.reshape(batch, height // SIDE, SIDE, width // SIDE, SIDE * channels)
        patches = patches.swapaxes(2, 3).reshape(batch, height // SIDE, width // SIDE, -1)
        return linen.Dense(self.latent_channels)(jax.nn.relu(linen.Dense(16)(patches)))


class PatchDecoder(linen.Module):
    """Two dense layers from each latent to its patch."""

    out_channels: int
    last_layer: ClassVar[str] = "Dense_1"

    @linen.compact
    def __call__(self, latents, *, train=False):
        """Latents [B, h, w, D] to [B, 2 h, 2 w, O]."""
        batch, rows, columns, _ = latents.shape
        hidden = jax.nn.relu(linen.Dense(16)(latents))
        patches = linen.Dense(SIDE * SIDE * self.out_channels)(hidden)
        patches = patches.reshape(batch, rows, columns, SIDE, SIDE * self.out_channels).swapaxes(2, 3)
        return patches.reshape(batch, SIDE * rows, SIDE * columns, self.out_channels)
