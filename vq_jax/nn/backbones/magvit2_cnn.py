"""The convolutional encoder and decoder of Open-MAGVIT2.

VQGAN's network without attention, with residual convolutions without bias. The decoder doubles by moving
channels into space, and before each level scales and shifts its features by statistics of the latents.

References:
  Yu et al. 2023, MAGVIT-v2, arXiv:2310.05737; Luo et al. 2024, Open-MAGVIT2, arXiv:2409.04410; sizes as in
  the latter's release.
"""

from typing import Any

import jax.numpy as jnp
from flax import linen as nn

from vq_jax import ops
from vq_jax.nn.backbones.cnn import Level
from vq_jax.nn.blocks import Conv, GroupNorm
from vq_jax.types import Array, Float

_BLOCK = (("use_bias", False),)


class MAGVIT2Encoder(nn.Module):
    """Open-MAGVIT2's encoder: levels of residual blocks, a convolution of stride 2 between them.

    Attributes:
      channels: width of the network.
      channel_multipliers: multipliers of `channels`, one per level; the picture is halved between levels.
      num_res_blocks: residual blocks per level, and at the lowest resolution.
      latent_channels: width D of a latent.
      remat: recompute residual blocks in the backward pass: less memory, more time.
      dtype: compute dtype; parameters are float32.
    """

    channels: int = 128
    channel_multipliers: tuple[int, ...] = (1, 1, 2, 2, 4)
    num_res_blocks: int = 4
    latent_channels: int = 18
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
        x = Conv(self.channels, use_bias=False, dtype=self.dtype, name="conv_in")(images)
        for level, multiplier in enumerate(self.channel_multipliers):
            x = Level(self.channels * multiplier, self.num_res_blocks, name=f"down_{level}", **options)(x)
            if level < self.num_downsamples:
                x = Conv(x.shape[-1], stride=2, dtype=self.dtype, name=f"down_{level}_downsample")(x)
        x = Level(x.shape[-1], self.num_res_blocks, name="mid", **options)(x)
        x = nn.swish(GroupNorm(dtype=self.dtype, name="norm_out")(x))
        return Conv(self.latent_channels, width=1, dtype=self.dtype, name="conv_out")(x)


class AdaptiveGroupNorm(nn.Module):
    """Group normalisation whose scale and shift are linear in the latents' deviation and mean over positions.

    Attributes:
      epsilon: added to variances.
      dtype: dtype of the result; the statistics are float32.
    """

    epsilon: float = 1e-6
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "B *S C"], latents: Float[Array, "B *s D"]) -> Float[Array, "B *S C"]:
        channels = x.shape[-1]
        positions = latents.astype(jnp.float32).reshape(latents.shape[0], -1, latents.shape[-1])
        mean = jnp.mean(positions, axis=1)
        square = jnp.sum(jnp.square(positions - mean[:, None]), axis=1)
        count = jnp.maximum(positions.shape[1] - 1, 1).astype(jnp.float32)  # as PyTorch computes it
        variance = square / count
        scale = nn.Dense(channels, name="gamma")(jnp.sqrt(variance + self.epsilon))
        shift = nn.Dense(channels, name="beta")(mean)
        plain = ops.group_norm(
            x.astype(self.dtype),
            jnp.ones((channels,), jnp.float32),
            jnp.zeros((channels,), jnp.float32),
            groups=min(32, channels),
            epsilon=self.epsilon,
        )
        broadcast = (x.shape[0], *(1,) * (x.ndim - 2), channels)
        scale, shift = (part.reshape(broadcast).astype(self.dtype) for part in (scale, shift))
        return plain * scale + shift


class MAGVIT2Decoder(nn.Module):
    """Open-MAGVIT2's decoder: adaptive normalisation before a level, channels moved into space after it.

    Attributes:
      channels: width of the network.
      channel_multipliers: multipliers of `channels`, one per level; level 0 has the full resolution.
      num_res_blocks: residual blocks per level, and at the lowest resolution.
      out_channels: output channels.
      remat: recompute residual blocks in the backward pass: less memory, more time.
      dtype: compute dtype; parameters are float32.
    """

    channels: int = 128
    channel_multipliers: tuple[int, ...] = (1, 1, 2, 2, 4)
    num_res_blocks: int = 4
    out_channels: int = 3
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
            x = AdaptiveGroupNorm(dtype=self.dtype, name=f"up_{level}_norm")(x, latents)
            x = Level(widths[level], self.num_res_blocks, name=f"up_{level}", **options)(x)
            if level > 0:
                parts = 2 ** (x.ndim - 2)
                x = Conv(parts * x.shape[-1], dtype=self.dtype, name=f"up_{level}_upsample")(x)
                x = ops.from_patches(x, 2)
        x = nn.swish(GroupNorm(dtype=self.dtype, name="norm_out")(x))
        return Conv(self.out_channels, dtype=self.dtype, name="conv_out")(x)
