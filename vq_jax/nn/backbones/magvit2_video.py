"""The causal convolutional encoder and decoder of MAGVIT-v2, for video and pictures.

The first frame stands alone: 1 + 4 k frames become 1 + k latents in time. Every level but the last halves
height and width, those in `time_levels` the frames too. Group normalisation takes the statistics of each
frame, and the decoder scales and shifts it at every position by the latent there.

References:
  Yu et al. 2023, Language Model Beats Diffusion, Tokenizer is Key to Visual Generation (MAGVIT-v2),
  arXiv:2310.05737, section 3.2 and appendix A; layers and widths as in the authors' code.
"""

from typing import Any, ClassVar

import jax.numpy as jnp
from flax import linen as nn

from vq_jax import ops
from vq_jax.nn.backbones.causal import (
    CausalConv,
    as_clip,
    check_part,
    frame_norm,
    has_begun,
    like_given,
    padded_clip,
)
from vq_jax.types import Array, Float


class CausalResBlock(nn.Module):
    """Residual block: twice norm by frame, swish and convolution without bias; 1x1x1 if the channels change.

    Attributes:
      features: output channels.
      time_width: width of the convolutions along frames.
      dtype: compute dtype; parameters are float32.
    """

    features: int
    time_width: int = 3
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "B T H W C"]) -> Float[Array, "B T H W O"]:
        options: dict[str, Any] = {"use_bias": False, "dtype": self.dtype}
        h = nn.swish(frame_norm(x, dtype=self.dtype, name="norm1"))
        h = CausalConv(self.features, time_width=self.time_width, name="conv1", **options)(h)
        h = nn.swish(frame_norm(h, dtype=self.dtype, name="norm2"))
        h = CausalConv(self.features, time_width=self.time_width, name="conv2", **options)(h)
        if x.shape[-1] != self.features:
            x = CausalConv(self.features, width=1, time_width=1, name="shortcut", **options)(x)
        return x + h


class CausalLevel(nn.Module):
    """Residual blocks at one resolution.

    Attributes:
      features: output channels.
      num_blocks: number of residual blocks.
      time_width: width of the convolutions along frames.
      remat: recompute each block in the backward pass instead of keeping its activations.
      dtype: compute dtype; parameters are float32.
    """

    features: int
    num_blocks: int
    time_width: int = 3
    remat: bool = False
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "B T H W C"]) -> Float[Array, "B T H W O"]:
        block = nn.remat(CausalResBlock) if self.remat else CausalResBlock
        for index in range(self.num_blocks):
            x = block(self.features, self.time_width, self.dtype, name=f"block_{index}")(x)
        return x


class LatentNorm(nn.Module):
    """Group normalisation by frame whose scale and shift are linear in the latent at each position.

    Attributes:
      dtype: compute dtype; parameters and statistics are float32.
    """

    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "B T H W C"], latents: Float[Array, "B T H W D"]
    ) -> Float[Array, "B T H W C"]:
        channels = x.shape[-1]
        plain = ops.group_norm(
            ops.clips_to_frames(x.astype(self.dtype)),
            jnp.ones((channels,), jnp.float32),
            jnp.zeros((channels,), jnp.float32),
            groups=min(32, channels),
            epsilon=1e-6,
        ).reshape(x.shape)
        scale = nn.Dense(channels, dtype=self.dtype, name="gamma")(latents)
        shift = nn.Dense(channels, dtype=self.dtype, name="beta")(latents)
        return plain * (1.0 + scale) + shift


class MAGVIT2VideoEncoder(nn.Module):
    """MAGVIT-v2's encoder: levels of residual blocks, a strided convolution of width 4 between them.

    Attributes:
      channels: width of the network.
      channel_multipliers: multipliers of `channels`, one per level; frames are halved in size between levels.
      time_levels: levels at whose end the number of frames is halved too.
      time_width: width of the convolutions along frames; 1 with no `time_levels`: each frame on its own.
      num_res_blocks: residual blocks per level, and at the lowest resolution.
      latent_channels: width D of a latent.
      remat: recompute residual blocks in the backward pass: less memory, more time.
      dtype: compute dtype; parameters are float32.
    """

    channels: int = 128
    channel_multipliers: tuple[int, ...] = (1, 2, 2, 4)
    time_levels: tuple[int, ...] = (1, 2)
    time_width: int = 3
    num_res_blocks: int = 4
    latent_channels: int = 18
    remat: bool = False
    dtype: Any = jnp.float32
    causal: ClassVar[bool] = True

    @nn.nowrap
    def strides(self, axes: int) -> tuple[int, ...]:
        """Returns the frames and pixels per code along each of `axes` axes."""
        side = 2 ** (len(self.channel_multipliers) - 1)
        return (2 ** len(self.time_levels), side, side)[-axes:]

    @nn.nowrap
    def padded_lengths(self, lengths: tuple[int, ...]) -> tuple[int, ...]:
        """Returns the least lengths that the encoder takes."""
        return padded_clip(lengths, self.strides(3))

    @nn.compact
    def __call__(self, images: Float[Array, "B *S C"], *, train: bool = False) -> Float[Array, "B *s D"]:
        """Encodes clips of 1 + k 2^(time levels) frames, whose sides are multiples of 2^(levels - 1).

        Raises:
          ValueError: another number of frames, or neither clips nor pictures.
        """
        clip = as_clip(images)
        check_part(clip.shape[1], self.strides(3)[0], has_begun(self))
        shared: dict[str, Any] = {"time_width": self.time_width, "dtype": self.dtype}
        options = {"remat": self.remat, **shared}
        x = CausalConv(self.channels, use_bias=False, name="conv_in", **shared)(clip)
        for level, multiplier in enumerate(self.channel_multipliers):
            x = CausalLevel(self.channels * multiplier, self.num_res_blocks, name=f"down_{level}", **options)(
                x
            )
            if level < len(self.channel_multipliers) - 1:
                halves = level in self.time_levels
                x = CausalConv(
                    x.shape[-1],
                    width=4,
                    time_width=self.time_width + (halves or self.time_width > 1),
                    stride=2,
                    time_stride=2 if halves else 1,
                    dtype=self.dtype,
                    name=f"down_{level}_downsample",
                )(x)
        x = CausalLevel(x.shape[-1], self.num_res_blocks, name="mid", **options)(x)
        x = nn.swish(frame_norm(x, dtype=self.dtype, name="norm_out"))
        x = CausalConv(self.latent_channels, width=1, time_width=1, dtype=self.dtype, name="conv_out")(x)
        return like_given(x, images)


class MAGVIT2VideoDecoder(nn.Module):
    """MAGVIT-v2's decoder: normalisation by the latents before a level, channels moved out after it.

    Where the frames are doubled, the first of all is dropped: the first latent stands for one frame.

    Attributes:
      channels: width of the network.
      channel_multipliers: multipliers of `channels`, one per level; level 0 has the full resolution.
      time_levels: levels at whose end the encoder halves the number of frames.
      time_width: width of the convolutions along frames.
      num_res_blocks: residual blocks per level, and at the lowest resolution.
      out_channels: output channels.
      remat: recompute residual blocks in the backward pass: less memory, more time.
      dtype: compute dtype; parameters are float32.
    """

    channels: int = 128
    channel_multipliers: tuple[int, ...] = (1, 2, 2, 4)
    time_levels: tuple[int, ...] = (1, 2)
    time_width: int = 3
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
        """Decodes 1 + k latents in time to 1 + k 2^(time levels) frames."""
        z, begun = as_clip(latents), has_begun(self)
        shared: dict[str, Any] = {"time_width": self.time_width, "dtype": self.dtype}
        options = {"remat": self.remat, **shared}
        widths = [self.channels * multiplier for multiplier in self.channel_multipliers]
        x = CausalConv(widths[-1], name="conv_in", **shared)(z)
        x = CausalLevel(widths[-1], self.num_res_blocks, name="mid", **options)(x)
        for level in reversed(range(len(widths))):
            x = LatentNorm(dtype=self.dtype, name=f"up_{level}_norm")(x, z)
            x = CausalLevel(widths[level], self.num_res_blocks, name=f"up_{level}", **options)(x)
            if level > 0:
                frames = 2 if level - 1 in self.time_levels else 1
                dropped = 0 if begun else frames - 1
                x = CausalConv(4 * frames * x.shape[-1], name=f"up_{level}_upsample", **shared)(x)
                x = ops.from_patches(x, (frames, 2, 2))[:, dropped:]
                z = _enlarge(z, frames)[:, dropped:]
        x = nn.swish(frame_norm(x, dtype=self.dtype, name="norm_out"))
        return like_given(CausalConv(self.out_channels, name="conv_out", **shared)(x), latents)


def _enlarge(z: Array, frames: int) -> Array:
    """Repeats latents along frames, and twice along rows and columns."""
    return ops.from_patches(jnp.tile(z, 4 * frames), (frames, 2, 2))
