"""A causal encoder and decoder of video on patches of space and time, with a linear path beside their blocks.

The first code of a place stands for the first frame's patch, every other for patches of several frames in a
row. No layer works at full resolution: on a CPU it learns several times as fast as networks that halve the
resolution step by step. A picture is a clip of one frame.

At first the linear path keeps the slowest waves of a patch, as the discrete cosine transform has them, and
makes the patch of them again: it learns several times as fast as from random projections, those of `patches`.

References:
  As in `patches`, whose networks these are with frames; causal in time as Yu et al. 2023, MAGVIT-v2,
  arXiv:2310.05737, section 3.2; convolutions over space and over time in turn as Tran et al. 2018, A Closer
  Look at Spatiotemporal Convolutions for Action Recognition, arXiv:1711.11248, section 3.5.
"""

import math
from typing import Any, ClassVar, Literal

import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from vq_jax import ops
from vq_jax.nn.backbones.causal import (
    CausalConv,
    as_clip,
    check_part,
    has_begun,
    like_given,
    padded_clip,
)
from vq_jax.types import Array, Float

_INIT = nn.initializers.lecun_normal()
_ZEROS = nn.initializers.zeros


class CausalResidualStack(nn.Module):
    """The residual blocks of `residual.ResidualStack`, whose second convolution sees earlier codes too.

    The first is over rows and columns, so that a block takes a third of the products of one over all axes.
    """

    channels: int
    residual_channels: int
    num_blocks: int
    time_width: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "B T H W C"]) -> Float[Array, "B T H W C"]:
        options: dict[str, Any] = {"edges": "zeros", "kernel_init": _INIT, "dtype": self.dtype}
        for block in range(self.num_blocks):
            wide, narrow = f"Conv_{2 * block}", f"Conv_{2 * block + 1}"
            h = CausalConv(self.residual_channels, time_width=1, name=wide, **options)(nn.relu(x))
            h = CausalConv(self.channels, width=1, time_width=self.time_width, name=narrow, **options)(
                nn.relu(h)
            )
            x = x + h
        return nn.relu(x)


class VideoPatchEncoder(nn.Module):
    """A linear map of each patch to its latent, plus a causal network with what surrounds the patch in view.

    Attributes:
      patch_size: pixels per code along rows and columns.
      frame_stride: frames per code from the second code on.
      time_width: codes in time that a residual block sees, its own and those before; 1: its own only.
      channels: width of the network.
      residual_channels: width inside the residual blocks.
      num_res_blocks: number of residual blocks.
      latent_channels: width D of a latent.
      waves: what the linear path keeps at first: the slowest waves of a patch of several frames (`clip`), or
        of each of its frames alone, in channels one after the other (`frame`), as a quantizer of as many
        groups asks for.
      dtype: compute dtype; parameters are float32.
    """

    patch_size: int = 4
    frame_stride: int = 4
    time_width: int = 3
    channels: int = 128
    residual_channels: int = 64
    num_res_blocks: int = 4
    latent_channels: int = 16
    waves: Literal["clip", "frame"] = "clip"
    dtype: Any = jnp.float32
    causal: ClassVar[bool] = True

    @nn.nowrap
    def strides(self, axes: int) -> tuple[int, ...]:
        """Returns the frames and pixels per code along each of `axes` axes."""
        return (self.frame_stride, self.patch_size, self.patch_size)[-axes:]

    @nn.nowrap
    def padded_lengths(self, lengths: tuple[int, ...]) -> tuple[int, ...]:
        """Returns the least lengths that the encoder takes."""
        return padded_clip(lengths, self.strides(3))

    @nn.compact
    def __call__(self, images: Float[Array, "B *S C"], *, train: bool = False) -> Float[Array, "B *s D"]:
        """Encodes clips of 1 + k frame_stride frames to 1 + k latents in time; edges of frames are repeated.

        Raises:
          ValueError: another number of frames, or neither clips nor pictures.
        """
        clip, begun = as_clip(images), has_begun(self)
        check_part(clip.shape[1], self.frame_stride, begun)
        x = clip if begun else ops.repeat_first(clip, self.frame_stride - 1)
        missing = [(0, -length % self.patch_size) for length in x.shape[2:4]]
        patches = ops.to_patches(ops.pad_edges(x, [(0, 0), *missing]), self.strides(3))
        linear = nn.Dense(
            self.latent_channels, use_bias=False, kernel_init=self._waves, dtype=self.dtype, name="linear"
        )(patches)
        x = _surroundings(self, patches)
        x = nn.Dense(self.latent_channels, kernel_init=_ZEROS, dtype=self.dtype, name="out")(x)
        return like_given(linear + x, images)

    @nn.nowrap
    def _waves(self, key: Array, shape: tuple[int, int], dtype: Any) -> Float[Array, "P D"]:
        """The linear path at first; nothing is drawn."""
        strides = self.strides(3)
        waves = _waves(strides, shape[0] // math.prod(strides), shape[1], self.waves)
        return jnp.asarray(waves, dtype)


class VideoPatchDecoder(nn.Module):
    """Mirror of the encoder: a linear map of each latent to its patch, plus a network over the latents.

    Attributes:
      patch_size: pixels per code along rows and columns.
      frame_stride: frames per code from the second code on.
      time_width: codes in time that a residual block sees.
      channels: width of the network.
      residual_channels: width inside the residual blocks.
      num_res_blocks: number of residual blocks.
      out_channels: output channels.
      waves: as for the encoder.
      dtype: compute dtype; parameters are float32.
    """

    patch_size: int = 4
    frame_stride: int = 4
    time_width: int = 3
    channels: int = 128
    residual_channels: int = 64
    num_res_blocks: int = 4
    out_channels: int = 3
    waves: Literal["clip", "frame"] = "clip"
    dtype: Any = jnp.float32

    @property
    def last_layer(self) -> str:
        """Name of the layer at whose kernel the adaptive adversarial weight is measured."""
        return "conv_out"

    @nn.compact
    def __call__(self, latents: Float[Array, "B *s D"], *, train: bool = False) -> Float[Array, "B *S C"]:
        """Decodes 1 + k latents in time to 1 + k frame_stride frames."""
        x, begun = as_clip(latents), has_begun(self)
        strides = (self.frame_stride, self.patch_size, self.patch_size)
        width = math.prod(strides) * self.out_channels
        linear = nn.Dense(width, use_bias=False, kernel_init=self._waves, dtype=self.dtype, name="linear")(x)
        x = CausalConv(
            width, time_width=1, edges="zeros", kernel_init=_ZEROS, dtype=self.dtype, name="conv_out"
        )(_surroundings(self, x))
        frames = ops.from_patches(linear + x, strides)
        return like_given(frames if begun else frames[:, self.frame_stride - 1 :], latents)

    @nn.nowrap
    def _waves(self, key: Array, shape: tuple[int, int], dtype: Any) -> Float[Array, "D P"]:
        """The linear path at first, which undoes that of the encoder; nothing is drawn."""
        strides = (self.frame_stride, self.patch_size, self.patch_size)
        return jnp.asarray(_waves(strides, self.out_channels, shape[0], self.waves).T, dtype)


def _waves(
    strides: tuple[int, ...], channels: int, count: int, kind: Literal["clip", "frame"]
) -> Float[np.ndarray, "P D"]:
    """The slowest waves of a patch as columns; `frame`: those of its first frame, then of its second ..."""
    if kind == "clip":
        return ops.cosine_patches(strides, channels, count)
    frames = strides[0]
    of_frame = ops.cosine_patches((1, *strides[1:]), channels, count // frames)
    each = np.kron(np.eye(frames, dtype=np.float32), of_frame)
    return np.pad(each, ((0, 0), (0, count - each.shape[1])))


def _surroundings(network: VideoPatchEncoder | VideoPatchDecoder, x: Array) -> Array:
    """Features of each place and of those around and before it, by the blocks of a network."""
    x = CausalConv(
        network.channels, time_width=1, edges="zeros", kernel_init=_INIT, dtype=network.dtype, name="conv_in"
    )(x)
    return CausalResidualStack(
        network.channels,
        network.residual_channels,
        network.num_res_blocks,
        network.time_width,
        network.dtype,
        name="blocks",
    )(x)
