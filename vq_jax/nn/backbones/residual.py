"""The convolutional encoder and decoder of the original VQ-VAE.

References:
  van den Oord, Vinyals, Kavukcuoglu 2017, Neural Discrete Representation Learning, arXiv:1711.00937,
  section 4.1; widths as in the authors' released example.
"""

from typing import Any, Literal

import jax.numpy as jnp
from flax import linen as nn

from vq_jax.nn.blocks import Conv, DoubleConvTranspose, UpsampleConv
from vq_jax.types import Array, Float


class ResidualStack(nn.Module):
    """Residual blocks (ReLU, 3x3, ReLU, 1x1) and a final ReLU."""

    channels: int
    residual_channels: int
    num_blocks: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "B *S C"]) -> Float[Array, "B *S C"]:
        spatial = x.ndim - 2
        for _ in range(self.num_blocks):
            h = nn.Conv(self.residual_channels, (3,) * spatial, dtype=self.dtype)(nn.relu(x))
            h = nn.Conv(self.channels, (1,) * spatial, dtype=self.dtype)(nn.relu(h))
            x = x + h
        return nn.relu(x)


class ResidualEncoder(nn.Module):
    """4x4 convolutions of stride 2, a 3x3 convolution, residual blocks, and a 1x1 convolution to the latents.

    Attributes:
      channels: width of the network; the first convolution has half as many channels.
      residual_channels: width inside the residual blocks.
      num_res_blocks: number of residual blocks.
      num_downsamples: number of times that each spatial axis is halved.
      latent_channels: width D of a latent.
      dtype: compute dtype; parameters are float32.
    """

    channels: int = 128
    residual_channels: int = 32
    num_res_blocks: int = 2
    num_downsamples: int = 2
    latent_channels: int = 64
    dtype: Any = jnp.float32

    @nn.nowrap
    def strides(self, axes: int) -> tuple[int, ...]:
        """Returns the pixels per code along each of `axes` spatial axes."""
        return (2**self.num_downsamples,) * axes

    @property
    def reach(self) -> int:
        """Positions on each side that a latent depends on, besides its own."""
        return min(self.num_downsamples, 1) + 1 + self.num_res_blocks

    @nn.compact
    def __call__(self, images: Float[Array, "B *S C"], *, train: bool = False) -> Float[Array, "B *s D"]:
        """Encodes pictures; each spatial axis s is S / 2^num_downsamples, rounded up."""
        spatial = images.ndim - 2
        x = images
        for level in range(self.num_downsamples):
            features = self.channels // 2 if level == 0 else self.channels
            x = nn.Conv(features, (4,) * spatial, strides=(2,) * spatial, dtype=self.dtype)(x)
            x = nn.relu(x)
        x = nn.Conv(self.channels, (3,) * spatial, dtype=self.dtype)(x)
        x = ResidualStack(self.channels, self.residual_channels, self.num_res_blocks, dtype=self.dtype)(x)
        return nn.Conv(self.latent_channels, (1,) * spatial, dtype=self.dtype)(x)


class ResidualDecoder(nn.Module):
    """Mirror of the encoder: a 3x3 convolution, residual blocks, then doublings of every spatial axis.

    Attributes:
      channels: width of the network; the layers next to the output have fewer channels.
      residual_channels: width inside the residual blocks.
      num_res_blocks: number of residual blocks.
      num_downsamples: number of times that each spatial axis is doubled.
      out_channels: output channels.
      upsampling: how an axis is doubled. `transposed`: by transposed 4x4 convolutions, the last of which
        makes the output, as in the paper. `nearest`: by repeating pixels before a 3x3 convolution; another
        3x3 convolution, from a quarter of `channels` at the full resolution, makes the output. Adversarial
        and perceptual losses leave a pattern of dots with `transposed` and none with `nearest`.
      dtype: compute dtype; parameters are float32.
    """

    channels: int = 128
    residual_channels: int = 32
    num_res_blocks: int = 2
    num_downsamples: int = 2
    out_channels: int = 3
    upsampling: Literal["transposed", "nearest"] = "transposed"
    dtype: Any = jnp.float32

    @property
    def last_layer(self) -> str:
        """Name of the layer at whose kernel the adaptive adversarial weight is measured."""
        if self.upsampling == "nearest":
            return "conv_out"
        return f"DoubleConvTranspose_{self.num_downsamples - 1}" if self.num_downsamples else "Conv_1"

    @property
    def reach(self) -> int:
        """Positions of latents on each side that a pixel depends on, besides its own."""
        # A doubling looks one position to each side, of half the size of those before it: below 2 in all.
        return 1 + self.num_res_blocks + (2 if self.num_downsamples > 1 else 1)

    @nn.compact
    def __call__(self, latents: Float[Array, "B *s D"], *, train: bool = False) -> Float[Array, "B *S C"]:
        """Decodes latents; each spatial axis S is s * 2^num_downsamples."""
        spatial = latents.ndim - 2
        x = nn.Conv(self.channels, (3,) * spatial, dtype=self.dtype)(latents)
        x = ResidualStack(self.channels, self.residual_channels, self.num_res_blocks, dtype=self.dtype)(x)
        if self.upsampling == "nearest":
            for level in reversed(range(self.num_downsamples)):
                width = self.channels // (2 if level > 0 else 4)
                x = nn.relu(UpsampleConv(width, dtype=self.dtype, name=f"up_{level}")(x))
            return Conv(self.out_channels, dtype=self.dtype, name="conv_out")(x)
        for level in reversed(range(self.num_downsamples)):
            width = self.channels if level > 1 else self.channels // 2
            features = width if level > 0 else self.out_channels
            x = DoubleConvTranspose(features, dtype=self.dtype)(x)
            if level > 0:
                x = nn.relu(x)
        if self.num_downsamples == 0:
            x = nn.Conv(self.out_channels, (3,) * spatial, dtype=self.dtype)(x)
        return x
