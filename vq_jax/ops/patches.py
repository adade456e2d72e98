"""Pictures cut into patches, and put together again (space to depth, and back); their edges repeated."""

import math
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np

from vq_jax.ops.meshes import auto_axes, rows_of
from vq_jax.types import Array, Float, Num


@auto_axes(lambda x, _: rows_of(x))
def pad_edges(x: Num[Array, "B *S C"], pads: Sequence[tuple[int, int]]) -> Num[Array, "B *S2 C"]:
    """Repeats the outermost pixels of pictures, or the outermost codes.

    Args:
      x: pictures, or what else lies in rows and columns.
      pads: how often, before and after, along each spatial axis.
    """
    return jnp.pad(x, ((0, 0), *pads, (0, 0)), mode="edge")


@auto_axes(lambda x, size: rows_of(x))
def to_patches(x: Float[Array, "B *S C"], size: int | Sequence[int]) -> Float[Array, "B *s P"]:
    """Cuts pictures into patches that do not overlap.

    Args:
      x: pictures; each of the n spatial axes S is a multiple of `size`.
      size: length of a patch along each axis, one number for all or one each.

    Returns:
      Patches, each spatial axis s = S / size, P = C times the product of the sizes: row by row,
      channels last.
    """
    batch, *spatial, channels = x.shape
    axes = len(spatial)
    sizes = _sizes(size, axes)
    split = [length for whole, size in zip(spatial, sizes, strict=True) for length in (whole // size, size)]
    places, pixels = range(1, 2 * axes + 1, 2), range(2, 2 * axes + 1, 2)
    cut = x.reshape(batch, *split, channels).transpose(0, *places, *pixels, 2 * axes + 1)
    return cut.reshape(batch, *split[::2], math.prod(sizes) * channels)


@auto_axes(lambda patches, size: rows_of(patches))
def from_patches(patches: Float[Array, "B *s P"], size: int | Sequence[int]) -> Float[Array, "B *S C"]:
    """Puts patches together: the inverse of `to_patches`."""
    batch, *places, width = patches.shape
    axes = len(places)
    sizes = _sizes(size, axes)
    channels = width // math.prod(sizes)
    order = [axis for place in range(1, axes + 1) for axis in (place, place + axes)]
    whole = [place * size for place, size in zip(places, sizes, strict=True)]
    parts = patches.reshape(batch, *places, *sizes, channels).transpose(0, *order, 2 * axes + 1)
    return parts.reshape(batch, *whole, channels)


def _sizes(size: int | Sequence[int], axes: int) -> tuple[int, ...]:
    return (size,) * axes if isinstance(size, int) else tuple(size)


def cosine_patches(sizes: Sequence[int], channels: int, count: int) -> Float[np.ndarray, "P count"]:
    """The `count` slowest waves of a patch, as columns of length 1 that are at right angles to each other.

    They are those of the discrete cosine transform along all axes, channels included, in ascending order of
    the sum of their squared frequencies. Columns beyond the P that there are are zero.

    Args:
      sizes: length of a patch along each axis.
      channels: channels of a pixel.
      count: number of waves.

    References:
      Ahmed, Natarajan, Rao 1974, Discrete Cosine Transform, IEEE Transactions on Computers C-23.
    """
    lengths = (*sizes, channels)
    frequencies = np.indices(lengths).reshape(len(lengths), -1).T
    chosen = frequencies[np.argsort((frequencies**2).sum(1), kind="stable")[:count]]
    waves = np.ones((1, len(chosen)))
    for length, frequency in zip(lengths, chosen.T, strict=True):
        places = (np.arange(length)[:, None] + 0.5) / length
        wave = np.cos(np.pi * places * frequency) * np.where(frequency == 0, 1.0, 2**0.5) / length**0.5
        waves = (waves[:, None] * wave).reshape(-1, len(chosen))
    return np.pad(waves, ((0, 0), (0, count - len(chosen)))).astype(np.float32)
