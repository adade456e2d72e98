"""An encoder and a decoder of video that move the last frame and code what is left, patch by patch.

Where each patch moved is found by comparison, not learned, and sent along in the latents' first two channels;
networks on patches, as those of `patches`, code the difference from the moved frame. Where two things meet
that move differently, a pixel may come from where the patches around it moved: the decoder mixes these. They
belong into a `ClosedLoopVQModel` with a `MotionQuantizer`.

References:
  Lu et al. 2019, DVC: An End-to-end Deep Video Compression Framework, arXiv:1812.00101, section 3.1: motion,
  compensation, residual (there optical flow by a network; here blocks, as codecs have them). Li, Li, Lu 2021,
  arXiv:2109.15047, section 3.2: networks that see the prediction beside the difference from it. Orchard and
  Sullivan 1994, Overlapped block motion compensation, IEEE Transactions on Image Processing 3: the motion of
  the blocks around (there mixed with fixed weights).
"""

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from vq_jax import ops
from vq_jax.nn.backbones.causal import as_clip, at_once, in_range, like_given, padded_clip, scan_frames
from vq_jax.nn.backbones.residual import ResidualStack
from vq_jax.ops.meshes import auto_axes, rows_of
from vq_jax.types import Array, Float, Int

_ZEROS = nn.initializers.zeros
_MOST = 3.0  # of a gain's logarithm
_OWN, _FOUR = ((0, 0),), ((-1, 0), (1, 0), (0, -1), (0, 1))  # steps along rows and columns
_CORNERS = ((-1, -1), (-1, 1), (1, -1), (1, 1))


class MotionEncoder(nn.Module):
    """The motion of each patch, and a linear map and a network of its difference from the moved frame.

    At first the linear map keeps the slowest waves of a patch and the network gives zero.

    Attributes:
      patch_size: pixels per code along rows and columns.
      radius: the longest motion from frame to frame along rows and columns, in pixels.
      channels: width of the network.
      residual_channels: width inside the residual blocks.
      num_res_blocks: number of residual blocks.
      latent_channels: width of a latent without its motion.
      dtype: compute dtype; parameters are float32.
    """

    patch_size: int = 8
    radius: int = 5
    channels: int = 96
    residual_channels: int = 64
    num_res_blocks: int = 3
    latent_channels: int = 32
    dtype: Any = jnp.float32
    causal: ClassVar[bool] = True

    @nn.nowrap
    def strides(self, axes: int) -> tuple[int, ...]:
        """Returns the frames and pixels per code along each of `axes` axes."""
        return (1, self.patch_size, self.patch_size)[-axes:]

    @nn.nowrap
    def padded_lengths(self, lengths: tuple[int, ...]) -> tuple[int, ...]:
        """Returns the least lengths that the encoder takes."""
        return padded_clip(lengths, self.strides(3))

    @nn.compact
    def __call__(
        self, frames: Float[Array, "B H W C"], previous: Float[Array, "B H W C"]
    ) -> Float[Array, "B h w D2"]:
        """Encodes frames, each with the one that the decoder made before it."""
        motion = ops.match_blocks(frames, previous, self.patch_size, self.radius)
        moved, *others = _moved(previous, motion, self.patch_size, _OWN + _FOUR)
        patches = ops.to_patches(frames, self.patch_size)
        left = patches - moved
        waves = _waves(self.patch_size, frames.shape[-1], self.latent_channels)
        linear = nn.Dense(waves.shape[1], use_bias=False, kernel_init=_fixed(waves), dtype=self.dtype)(left)
        linear = linear * _Gain(self.latent_channels, self.dtype)(moved)
        x = _Network(self.channels, self.residual_channels, self.num_res_blocks, self.dtype)(
            jnp.concatenate([left, moved, *(patches - other for other in others)], axis=-1)
        )
        x = linear + nn.Dense(self.latent_channels, kernel_init=_ZEROS, dtype=self.dtype, name="out")(x)
        return jnp.concatenate([motion.astype(x.dtype), x], axis=-1)


class MotionDecoder(nn.Module):
    """Mirror of the encoder: moves the patches of the last frame and adds what the latents say is left.

    Attributes:
      patch_size: pixels per code along rows and columns.
      channels: width of the network.
      residual_channels: width inside the residual blocks.
      num_res_blocks: number of residual blocks.
      latent_channels: width of a latent without its motion.
      out_channels: output channels.
      dtype: compute dtype; parameters are float32.
    """

    patch_size: int = 8
    channels: int = 96
    residual_channels: int = 64
    num_res_blocks: int = 3
    latent_channels: int = 32
    out_channels: int = 3
    dtype: Any = jnp.float32

    def setup(self) -> None:
        waves = _waves(self.patch_size, self.out_channels, self.latent_channels)
        pixels = self.patch_size**2 * self.out_channels
        self.gain = _Gain(self.latent_channels, self.dtype)
        self.linear = nn.Dense(pixels, use_bias=False, kernel_init=_fixed(waves.T), dtype=self.dtype)
        self.blocks = _Network(self.channels, self.residual_channels, self.num_res_blocks, self.dtype)
        self.shares = nn.Dense(5 * pixels, kernel_init=_ZEROS, bias_init=_mostly_own, dtype=self.dtype)
        self.conv_out = nn.Conv(pixels, (3, 3), kernel_init=_ZEROS, dtype=self.dtype)

    @property
    def last_layer(self) -> str:
        """Name of the layer at whose kernel the adaptive adversarial weight is measured."""
        return "conv_out"

    def __call__(self, latents: Float[Array, "B *s D2"], *, train: bool = False) -> Float[Array, "B *S C"]:
        """Decodes clips of latents, frame by frame, or the latents of pictures."""
        clip = as_clip(latents)
        nothing = jnp.zeros_like(clip[:, 0, :, :, :1], jnp.float32)  # spread over devices as the latents are
        pixels = self.patch_size**2 * self.out_channels
        first = ops.from_patches(jnp.broadcast_to(nothing, (*nothing.shape[:3], pixels)), self.patch_size)

        def body(decoder: Any, previous: Array, latents: Array) -> tuple[Array, Array]:
            frames = decoder.step(latents, previous)
            return in_range(frames), previous if train else frames

        found = scan_frames(self, body, clip, first)
        if train:  # all frames at once, each from the one before it, through which no gradient passes
            found = at_once(self.step, clip, jax.lax.stop_gradient(found))
        return like_given(found, latents)

    def step(
        self, latents: Float[Array, "B h w D2"], previous: Float[Array, "B H W C"]
    ) -> Float[Array, "B H W C"]:
        """Decodes one frame of each clip, given the one before it, float32."""
        moved, *others = _moved(previous, _motion(latents), self.patch_size, _OWN + _FOUR)
        vectors = latents[..., 2:].astype(self.dtype) * self.gain(moved)
        seen = jnp.concatenate([moved, *(other - moved for other in others)], axis=-1).astype(self.dtype)
        x = self.blocks(jnp.concatenate([vectors, seen], axis=-1))
        shares = self.shares(x).reshape(*moved.shape[:3], 1 + len(others), -1).astype(jnp.float32)
        mixed = jnp.sum(nn.softmax(shares, axis=-2) * jnp.stack([moved, *others], axis=-2), axis=-2)
        left = (self.linear(vectors) + self.conv_out(x)).astype(jnp.float32)
        return ops.from_patches(mixed + left, self.patch_size)

    @property
    def view_widths(self) -> tuple[int, int]:
        """Width of a patch, and of a view, which begins with it."""
        pixels = self.patch_size**2 * self.out_channels
        return pixels, (1 + len(_OWN + _FOUR + _CORNERS)) * pixels

    def view(
        self, latents: Float[Array, "B h w D2"], frames: Float[Array, "B H W C"]
    ) -> Float[Array, "B h w V"]:
        """What a prior sees of frames that these latents led to, in [-1, 1].

        At each position it is the frame's patch, and what would come in its place if motion went on: moved as
        the patch was, and as each of the eight around it.
        """
        moved = _moved(frames, _motion(latents), self.patch_size, _OWN + _FOUR + _CORNERS)
        return jnp.concatenate([ops.to_patches(frames, self.patch_size), *moved], axis=-1)


def _motion(latents: Float[Array, "B h w D2"]) -> Int[Array, "B h w 2"]:
    return jnp.round(jax.lax.stop_gradient(latents[..., :2]).astype(jnp.float32)).astype(jnp.int32)


class _Network(nn.Module):
    """Residual blocks over patches, after a map of each patch to the width of the network."""

    channels: int
    residual_channels: int
    num_blocks: int
    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "B h w P"]) -> Float[Array, "B h w O"]:
        x = nn.Dense(self.channels, dtype=self.dtype)(x)
        return ResidualStack(self.channels, self.residual_channels, self.num_blocks, dtype=self.dtype)(x)


class _Gain(nn.Module):
    """What latents are multiplied by where a moved frame lets expect more or less: 1 at first, never 0."""

    features: int
    dtype: Any

    @nn.compact
    def __call__(self, moved: Float[Array, "B h w P"]) -> Float[Array, "B h w D"]:
        x = nn.relu(nn.Conv(2 * self.features, (3, 3), dtype=self.dtype)(moved))
        x = nn.Dense(self.features, kernel_init=_ZEROS, dtype=self.dtype)(x)
        return jnp.exp(_MOST * jnp.tanh(x / _MOST))


@auto_axes(lambda previous, *_: rows_of(previous))
def _moved(
    previous: Float[Array, "B H W C"],
    motion: Int[Array, "B h w 2"],
    size: int,
    whose: tuple[tuple[int, int], ...],
) -> list[Float[Array, "B h w P"]]:
    """Patches of the previous frame, each moved with the motion of those some steps from it."""
    rows, columns = motion.shape[1:3]
    wide = jnp.pad(motion, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="edge")
    motions = (wide[:, 1 + row : 1 + row + rows, 1 + column : 1 + column + columns] for row, column in whose)
    return [ops.to_patches(ops.move_blocks(previous, each, size), size) for each in motions]


def _mostly_own(key: Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> Float[Array, " O"]:
    """Shares that begin with nine tenths for a patch's own motion; nothing is drawn."""
    return jnp.concatenate([jnp.full(shape[0] // 5, 3.5, dtype), jnp.zeros(shape[0] - shape[0] // 5, dtype)])


def _waves(patch_size: int, channels: int, count: int) -> Float[np.ndarray, "P D"]:
    """The slowest waves of a patch as columns."""
    return ops.cosine_patches((patch_size, patch_size), channels, count)


def _fixed(kernel: Float[np.ndarray, "I O"]) -> nn.initializers.Initializer:
    """An initialiser that draws nothing."""
    return lambda key, shape, dtype=jnp.float32: jnp.asarray(kernel, dtype)
