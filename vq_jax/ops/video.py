"""Clips [B, T, ...]: what a causal network over time needs. A frame sees itself and the frames before it."""

import jax.numpy as jnp

from vq_jax.ops.meshes import auto_axes, rows_of
from vq_jax.types import Array, Float


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
