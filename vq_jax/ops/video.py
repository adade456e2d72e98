"""Clips [B, T, ...]: what a causal network over time needs. A frame sees itself and the frames before it."""

import functools

import jax
import jax.numpy as jnp

from vq_jax.ops.convolution import conv
from vq_jax.ops.meshes import auto_axes, rows_of
from vq_jax.types import Array, Float, Int, Key


@auto_axes(lambda x, _: rows_of(x))
def repeat_first(x: Float[Array, "B T *S C"], count: int) -> Float[Array, "B T2 *S C"]:
    """Puts the first frame `count` times in front of a clip: the past of a clip that has none.

    References:
      Yu et al. 2023, MAGVIT-v2, arXiv:2310.05737, section 3.2: a convolution of width k over time pads k - 1
      frames before the first and none after the last. Which values is said in the authors' code only: the
      first frame's.
    """
    return jnp.concatenate([jnp.repeat(x[:, :1], count, axis=1), x], axis=1)


@auto_axes(lambda x: rows_of(x))
def clips_to_frames(x: Float[Array, "B T *S C"]) -> Float[Array, "N *S C"]:
    """Makes each frame of each clip a picture of a batch of N = B T."""
    return x.reshape(-1, *x.shape[2:])


@auto_axes(lambda x, frames: rows_of(x))
def frames_to_clips(x: Float[Array, "N *S C"], frames: int) -> Float[Array, "B T *S C"]:
    """Puts `frames` pictures in a row together as a clip: the inverse of `clips_to_frames`."""
    return x.reshape(-1, frames, *x.shape[1:])


def draw_frames(rng: Key[Array, ""], total: int, count: int, *, in_a_row: bool) -> Int[Array, " count"]:
    """Draws the numbers of `count` of the frames of a clip, without repetition, in ascending order.

    Args:
      rng: random key.
      total: frames of the clip.
      count: how many to draw; at most `total`.
      in_a_row: draw neighbours.
    """
    if in_a_row:
        first = jax.random.randint(rng, (), 0, total - count + 1)
        return first + jnp.arange(count, dtype=jnp.int32)
    return jnp.sort(jax.random.choice(rng, total, (count,), replace=False)).astype(jnp.int32)


@auto_axes(lambda x, frames: rows_of(x))
def take_frames(x: Float[Array, "B T *S C"], frames: Int[Array, " K"]) -> Float[Array, "B K *S C"]:
    """The frames of these numbers, of every clip."""
    return jnp.take(x, frames, axis=1)


@auto_axes(lambda x, *_, **__: rows_of(x))
def clip_conv(
    x: Float[Array, "B T H W I"],
    kernel: Float[Array, "t h w I O"],
    strides: tuple[int, int, int],
    sides: tuple[int, int],
) -> Float[Array, "B T2 H2 W2 O"]:
    """Convolution over frames, rows and columns, without padding along the frames.

    Equals `conv` with that padding. On CPU, where XLA's convolution over three axes takes twice the time, it
    is one over two axes, whose input channels are those of the t frames that a frame of the output sees.

    Args:
      x: clips of at least t frames.
      kernel: of width t along frames.
      strides: along frames, rows and columns.
      sides: number of zeros before and after, along rows and along columns.

    Returns:
      Clips of the dtype of x.
    """
    if kernel.shape[0] == 1:
        return _frames_as_channels(x, kernel, strides=strides, sides=sides)
    return jax.lax.platform_dependent(
        x,
        kernel,
        cpu=functools.partial(_frames_as_channels, strides=strides, sides=sides),
        default=functools.partial(_plain_clip_conv, strides=strides, sides=sides),
    )


def _plain_clip_conv(
    x: Array, kernel: Array, *, strides: tuple[int, int, int], sides: tuple[int, int]
) -> Array:
    return conv(x, kernel, strides, ((0, 0), sides, sides))


def _frames_as_channels(
    x: Array, kernel: Array, *, strides: tuple[int, int, int], sides: tuple[int, int]
) -> Array:
    width, step = kernel.shape[0], strides[0]
    frames = (x.shape[1] - width) // step + 1
    seen = [x[:, first : first + (frames - 1) * step + 1 : step] for first in range(width)]
    pictures = jnp.concatenate(seen, axis=-1).reshape(-1, *x.shape[2:-1], width * x.shape[-1])
    by_channel = jnp.concatenate(list(kernel), axis=2)
    y = conv(pictures, by_channel, strides[1:], (sides, sides))
    return y.reshape(x.shape[0], frames, *y.shape[1:])
