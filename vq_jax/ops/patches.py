"""Pictures cut into patches, and put together again (space to depth, and back); their edges repeated."""

import math
from collections.abc import Sequence

import jax.numpy as jnp

from vq_jax.ops.meshes import auto_axes, rows_of
from vq_jax.types import Array, Float


@auto_axes(lambda x, _: rows_of(x))
def pad_edges(x: Float[Array, "B *S C"], pads: Sequence[tuple[int, int]]) -> Float[Array, "B *S2 C"]:
    """Repeats the outermost pixels of pictures.

    Args:
      x: pictures.
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
