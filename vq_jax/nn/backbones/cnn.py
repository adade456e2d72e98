"""The convolutional encoder and decoder of VQGAN.

Parameters are named after the original's: `encoder/down_0/block_1/norm1/scale` is its
`encoder.down.0.block.1.norm1.weight`; the decoder's levels are numbered by resolution, 0 being the full one.

References:
  Esser, Rombach, Ommer 2021, Taming Transformers for High-Resolution Image Synthesis,
  arXiv:2012.09841, table 7.
"""

from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import linen as nn

from vq_jax.nn.blocks import Conv, GroupNorm, UpsampleConv
from vq_jax.types import Array, Float


class ResBlock(nn.Module):
    """Residual block: twice norm, swish and 3x3 convolution; a 1x1 convolution if the channels change.

    Attributes:
      features: output channels.
      use_bias: whether the convolutions have a bias.
      shortcut_of: what the skip's 1x1 convolution reads: the block's `input`, or, as in MaskGIT's
        published network, the `output` of the second convolution.
      dtype: compute dtype; parameters are float32.
    """

    features: int
    use_bias: bool = True
    shortcut_of: Literal["input", "output"] = "input"
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "B *S C"]) -> Float[Array, "B *S O"]:
        options: dict[str, Any] = {"use_bias": self.use_bias, "dtype": self.dtype}
        h = nn.swish(GroupNorm(dtype=self.dtype, name="norm1")(x))
        h = Conv(self.features, name="conv1", **options)(h)
        h = nn.swish(GroupNorm(dtype=self.dtype, name="norm2")(h))
        h = Conv(self.features, name="conv2", **options)(h)
        if x.shape[-1] != self.features:
            source = x if self.shortcut_of == "input" else h
            x = Conv(self.features, width=1, name="shortcut", **options)(source)
        return x + h


class SpatialAttention(nn.Module):
    """Single-head self-attention over all positions with a skip connection; softmax in float32.

    Attributes:
      dtype: compute dtype; parameters are float32.
    """

    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "B *S C"]) -> Float[Array, "B *S C"]:
        channels = x.shape[-1]
        h = GroupNorm(dtype=self.dtype, name="norm")(x)
        q, k, v = (
            Conv(channels, width=1, dtype=self.dtype, name=name)(h).reshape(x.shape[0], -1, channels)
            for name in ("q", "k", "v")
        )
        logits = jnp.einsum("bqc,bkc->bqk", q, k).astype(jnp.float32) * channels**-0.5
        weights = jax.nn.softmax(logits, axis=-1).astype(self.dtype)
        h = jnp.einsum("bqk,bkc->bqc", weights, v).reshape(x.shape)
        return x + Conv(channels, width=1, dtype=self.dtype, name="proj_out")(h)


class Downsample(nn.Module):
    """3x3 convolution of stride 2, padded with one row and column of zeros at the end only."""

    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "B *S C"]) -> Float[Array, "B *s C"]:
        return Conv(x.shape[-1], stride=2, padding=(0, 1), dtype=self.dtype, name="conv")(x)


class Upsample(nn.Module):
    """Nearest-neighbour doubling of every spatial axis, then a 3x3 convolution."""

    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "B *S C"]) -> Float[Array, "B *S2 C"]:
        return UpsampleConv(x.shape[-1], dtype=self.dtype, name="conv")(x)


class Level(nn.Module):
    """Residual blocks at one resolution, each optionally followed by attention.

    Attributes:
      features: output channels.
      num_blocks: number of residual blocks.
      attention: whether attention follows every block.
      block: fields of `ResBlock`, as (name, value) pairs.
      remat: recompute each block in the backward pass instead of keeping its activations.
      dtype: compute dtype; parameters are float32.
    """

    features: int
    num_blocks: int
    attention: bool = False
    block: tuple[tuple[str, Any], ...] = ()
    remat: bool = False
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "B *S C"]) -> Float[Array, "B *S O"]:
        block = nn.remat(ResBlock) if self.remat else ResBlock
        for index in range(self.num_blocks):
            x = block(self.features, dtype=self.dtype, name=f"block_{index}", **dict(self.block))(x)
            if self.attention:
                x = SpatialAttention(dtype=self.dtype, name=f"attention_{index}")(x)
        return x


class Middle(nn.Module):
    """Residual block, optional attention, residual block, at the lowest resolution."""

    attention: bool = True
    remat: bool = False
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "B *S C"]) -> Float[Array, "B *S C"]:
        block = nn.remat(ResBlock) if self.remat else ResBlock
        x = block(x.shape[-1], dtype=self.dtype, name="block_1")(x)
        if self.attention:
            x = SpatialAttention(dtype=self.dtype, name="attention_1")(x)
        return block(x.shape[-1], dtype=self.dtype, name="block_2")(x)


class CNNEncoder(nn.Module):
    """VQGAN's encoder: levels of residual blocks; every level but the last halves the picture.

    Attributes:
      channels: width of the network.
      channel_multipliers: multipliers of `channels`, one per level; the picture is halved between levels.
      num_res_blocks: residual blocks per level.
      attention_levels: levels whose blocks are followed by attention.
      middle_attention: whether there is attention between the last two blocks.
      z_channels: output channels of the last 3x3 convolution.
      latent_channels: width D of a latent, the output channels of a last convolution (`quant_conv`).
      quant_width: width of that convolution's kernel.
      remat: recompute residual blocks in the backward pass: less memory, more time.
      dtype: compute dtype; parameters are float32.
    """

    channels: int = 128
    channel_multipliers: tuple[int, ...] = (1, 1, 2, 2, 4)
    num_res_blocks: int = 2
    attention_levels: tuple[int, ...] = (4,)
    middle_attention: bool = True
    z_channels: int = 256
    latent_channels: int = 256
    quant_width: int = 1
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
        x = Conv(self.channels, dtype=self.dtype, name="conv_in")(images)
        for level, multiplier in enumerate(self.channel_multipliers):
            x = Level(
                self.channels * multiplier,
                self.num_res_blocks,
                attention=level in self.attention_levels,
                remat=self.remat,
                dtype=self.dtype,
                name=f"down_{level}",
            )(x)
            if level < self.num_downsamples:
                x = Downsample(dtype=self.dtype, name=f"down_{level}_downsample")(x)
        x = Middle(self.middle_attention, remat=self.remat, dtype=self.dtype, name="mid")(x)
        x = nn.swish(GroupNorm(dtype=self.dtype, name="norm_out")(x))
        x = Conv(self.z_channels, dtype=self.dtype, name="conv_out")(x)
        return Conv(self.latent_channels, width=self.quant_width, dtype=self.dtype, name="quant_conv")(x)


class CNNDecoder(nn.Module):
    """VQGAN's decoder: mirrors the encoder, with one more residual block per level.

    Attributes:
      channels: width of the network.
      channel_multipliers: multipliers of `channels`, one per level; level 0 has the full resolution.
      num_res_blocks: residual blocks per level, minus one.
      attention_levels: levels whose blocks are followed by attention.
      middle_attention: whether there is attention between the first two blocks.
      z_channels: output channels of a convolution (`post_quant_conv`) that reads the latents.
      quant_width: width of that convolution's kernel.
      out_channels: output channels.
      remat: recompute residual blocks in the backward pass: less memory, more time.
      dtype: compute dtype; parameters are float32.
    """

    channels: int = 128
    channel_multipliers: tuple[int, ...] = (1, 1, 2, 2, 4)
    num_res_blocks: int = 2
    attention_levels: tuple[int, ...] = (4,)
    middle_attention: bool = True
    z_channels: int = 256
    quant_width: int = 1
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
        x = Conv(self.z_channels, width=self.quant_width, dtype=self.dtype, name="post_quant_conv")(latents)
        x = Conv(self.channels * self.channel_multipliers[-1], dtype=self.dtype, name="conv_in")(x)
        x = Middle(self.middle_attention, remat=self.remat, dtype=self.dtype, name="mid")(x)
        for level in reversed(range(len(self.channel_multipliers))):
            x = Level(
                self.channels * self.channel_multipliers[level],
                self.num_res_blocks + 1,
                attention=level in self.attention_levels,
                remat=self.remat,
                dtype=self.dtype,
                name=f"up_{level}",
            )(x)
            if level > 0:
                x = Upsample(dtype=self.dtype, name=f"up_{level}_upsample")(x)
        x = nn.swish(GroupNorm(dtype=self.dtype, name="norm_out")(x))
        return Conv(self.out_channels, dtype=self.dtype, name="conv_out")(x)
