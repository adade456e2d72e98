"""The convolutional encoder and decoder of MaskGIT's tokenizer.

VQGAN's without attention, with average pooling, residual convolutions without bias, and a skip that,
where the channels change, reads the block's own output (`ResBlock.shortcut_of`): so is the published
network, and its weights need it.

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
    """Levels of residual blocks with average pooling between them, two more blocks, a 1x1 convolution.

    Attributes:
      channels: width of the network.
      channel_multipliers: of the width, one a level; as many halvings as levels less one.
      num_res_blocks: residual blocks a level.
      latent_channels: width of a latent D.
      remat: recompute residual blocks in the backward pass: less memory, more time.
      dtype: compute dtype; parameters are float32.
    """

    channels: int = 128
    channel_multipliers: tuple[int, ...] = (1, 1, 2, 2, 4)
    num_res_blocks: int = 2
    latent_channels: int = 256
    remat: bool = False
    dtype: Any = jnp.float32

    @property
    def num_downsamples(self) -> int:
        """Times that each spatial axis is halved."""
        return len(self.channel_multipliers) - 1

    @nn.nowrap
    def strides(self, axes: int) -> tuple[int, ...]:
        """Pixels a code, along each of `axes` spatial axes."""
        return (2**self.num_downsamples,) * axes

    @nn.compact
    def __call__(self, images: Float[Array, "B *S C"], *, train: bool = False) -> Float[Array, "B *s D"]:
        """Encodes pictures; each spatial axis must be a multiple of 2^num_downsamples."""
        options: dict[str, Any] = {"block": _BLOCK, "remat": self.remat, "dtype": self.dtype}
        x = Conv(self.channels, use_bias=False, dtype=self.dtype, name="conv_in")(images)
        for level, multiplier in enumerate(self.channel_multipliers):
            x = Level(self.channels * multiplier, self.num_res_blocks, name=f"down_{level}", **options)(x)
            if level < self.num_downsamples:
                x = _halve(x)
        x = Level(x.shape[-1], self.num_res_blocks, name="mid", **options)(x)
        x = nn.swish(GroupNorm(dtype=self.dtype, name="norm_out")(x))
        return Conv(self.latent_channels, width=1, dtype=self.dtype, name="conv_out")(x)


class MaskGITDecoder(nn.Module):
    """The encoder's mirror; pixels are repeated and convolved between levels.

    Attributes:
      channels: width of the network.
      channel_multipliers: of the width, one a level, level 0 at the full resolution.
      num_res_blocks: residual blocks a level.
      out_channels: channels put out.
      remat: recompute residual blocks in the backward pass: less memory, more time.
      dtype: compute dtype; parameters are float32.
    """

    channels: int = 128
    channel_multipliers: tuple[int, ...] = (1, 1, 2, 2, 4)
    num_res_blocks: int = 2
    out_channels: int = 3
    remat: bool = False
    dtype: Any = jnp.float32

    @property
    def last_layer(self) -> str:
        """Name of the layer whose kernel the adaptive adversarial weight is measured at."""
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
        return Conv(self.out_channels, dtype=self.dtype, name="conv_out")(x)


def _halve(x: Array) -> Array:
    """Mean of every 2x2 pixels (2^n of n spatial axes), of the dtype of x."""
    for axis in range(1, x.ndim - 1):
        pairs = x.reshape(*x.shape[:axis], x.shape[axis] // 2, 2, *x.shape[axis + 1 :])
        x = jnp.mean(pairs, axis=axis + 1)
    return x
