"""The convolutional encoder and decoder of MaskGIT's tokenizer.

It is VQGAN's network without attention, with average pooling, residual convolutions without bias, and a skip
that, where the channels change, reads the output of the block's second convolution
(`ResBlock.shortcut_of`), as in the published network, whose weights require it.

References:
  Chang, Zhang, Jiang, Liu, Freeman 2022, MaskGIT, arXiv:2202.04200; sizes as in the authors' release.
"""

from typing import Any

import jax.numpy as jnp
from flax import linen as nn

from vq_jax.nn.backbones.cnn import Level, Upsample
from vq_jax.nn.blocks import Conv, GroupNorm
from vq_jax.types import Array, Float

_BLOCK = (("use_bias", False), ("shortcut_of", "output"))


class MaskGITEncoder(nn.Module):
    """MaskGIT's encoder: levels of residual blocks, average pooling between them, a 1x1 convolution.

    Attributes:
      channels: width of the network.
      channel_multipliers: multipliers of `channels`, one per level; the picture is halved between levels.
      num_res_blocks: residual blocks per level, and at the lowest resolution.
      latent_channels: width D of a latent.
      unit_range: convolve pictures in [0, 1], as the published network does, not in [-1, 1].
      remat: recompute residual blocks in the backward pass: less memory, more time.
      dtype: compute dtype; parameters are float32.
    """

    channels: int = 128
    channel_multipliers: tuple[int, ...] = (1, 1, 2, 2, 4)
    num_res_blocks: int = 2
    latent_channels: int = 256
    unit_range: bool = False
    remat: bool = False
    dtype: Any = jnp.float32

    @property
    def num_downsamples(self) -> int:
        """Number of times that each spatial axis is halved."""
        return len(self.channel_multipliers) - 1

    @nn.nowrap
    def strides(self, axes: int) -> tuple[int, ...]:
        """Returns the pixels per code along each of `axes` spatial axes."""
        return (2**self.num_downsamples,) * axes

    @nn.compact
    def __call__(self, images: Float[Array, "B *S C"], *, train: bool = False) -> Float[Array, "B *s D"]:
        """Encodes pictures; each spatial axis must be a multiple of 2^num_downsamples."""
        options: dict[str, Any] = {"block": _BLOCK, "remat": self.remat, "dtype": self.dtype}
        images = (images + 1.0) * 0.5 if self.unit_range else images
        x = Conv(self.channels, use_bias=False, dtype=self.dtype, name="conv_in")(images)
        for level, multiplier in enumerate(self.channel_multipliers):
            x = Level(self.channels * multiplier, self.num_res_blocks, name=f"down_{level}", **options)(x)
            if level < self.num_downsamples:
                x = _halve(x)
        x = Level(x.shape[-1], self.num_res_blocks, name="mid", **options)(x)
        x = nn.swish(GroupNorm(dtype=self.dtype, name="norm_out")(x))
        return Conv(self.latent_channels, width=1, dtype=self.dtype, name="conv_out")(x)


class MaskGITDecoder(nn.Module):
    """MaskGIT's decoder: mirrors the encoder, with a nearest-neighbour doubling between levels.

    Attributes:
      channels: width of the network.
      channel_multipliers: multipliers of `channels`, one per level; level 0 has the full resolution.
      num_res_blocks: residual blocks per level, and at the lowest resolution.
      out_channels: output channels.
      unit_range: the last convolution outputs pictures in [0, 1], as the published one's, not in [-1, 1].
      remat: recompute residual blocks in the backward pass: less memory, more time.
      dtype: compute dtype; parameters are float32.
    """

    channels: int = 128
    channel_multipliers: tuple[int, ...] = (1, 1, 2, 2, 4)
    num_res_blocks: int = 2
    out_channels: int = 3
    unit_range: bool = False
    remat: bool = False
    dtype: Any = jnp.float32

    @property
    def last_layer(self) -> str:
        """Name of the layer at whose kernel the adaptive adversarial weight is measured."""
        return "conv_out"

    @nn.compact
    def __call__(self, latents: Float[Array, "B *s D"], *, train: bool = False) -> Float[Array, "B *S C"]:
        """Decodes latents; each spatial axis S is s * 2^(levels - 1)."""
        options: dict[str, Any] = {"block": _BLOCK, "remat": self.remat, "dtype": self.dtype}
        widths = [self.channels * multiplier for multiplier in self.channel_multipliers]
        x = Conv(widths[-1], dtype=self.dtype, name="conv_in")(latents)
        x = Level(widths[-1], self.num_res_blocks, name="mid", **options)(x)
        for level in reversed(range(len(widths))):
            x = Level(widths[level], self.num_res_blocks, name=f"up_{level}", **options)(x)
            if level > 0:
                x = Upsample(dtype=self.dtype, name=f"up_{level}_upsample")(x)
        x = nn.swish(GroupNorm(dtype=self.dtype, name="norm_out")(x))
        x = Conv(self.out_channels, dtype=self.dtype, name="conv_out")(x)
        return x * 2.0 - 1.0 if self.unit_range else x


def _halve(x: Array) -> Array:
    """Mean of every 2x2 pixels (2^n with n spatial axes), in the dtype of x."""
    for axis in range(1, x.ndim - 1):
        pairs = x.reshape(*x.shape[:axis], x.shape[axis] // 2, 2, *x.shape[axis + 1 :])
        x = jnp.mean(pairs, axis=axis + 1)
    return x
