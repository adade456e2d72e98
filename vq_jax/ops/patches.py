"""Pictures cut into square patches, and put together again (space to depth, and back)."""

from vq_jax.ops.meshes import auto_axes, rows_of
from vq_jax.types import Array, Float


@auto_axes(lambda x, size: rows_of(x))
def to_patches(x: Float[Array, "B *S C"], size: int) -> Float[Array, "B *s P"]:
    """Cuts pictures into patches that do not overlap.

    Args:
      x: pictures; each of the n spatial axes S is a multiple of `size`.
      size: length of a patch along each axis.

    Returns:
      Patches, each spatial axis s = S / size, P = size^n C: row by row, channels last.
    """
    batch, *spatial, channels = x.shape
    axes = len(spatial)
    split = [length for whole in spatial for length in (whole // size, size)]
    places, pixels = range(1, 2 * axes + 1, 2), range(2, 2 * axes + 1, 2)
    cut = x.reshape(batch, *split, channels).transpose(0, *places, *pixels, 2 * axes + 1)
    return cut.reshape(batch, *(whole // size for whole in spatial), size**axes * channels)


@auto_axes(lambda patches, size: rows_of(patches))
def from_patches(patches: Float[Array, "B *s P"], size: int) -> Float[Array, "B *S C"]:
    """Puts patches together: the inverse of `to_patches`."""
    batch, *places, width = patches.shape
    axes = len(places)
    parts = patches.reshape(batch, *places, *(size,) * axes, width // size**axes)
    order = [axis for place in range(1, axes + 1) for axis in (place, place + axes)]
    whole = [place * size for place in places]
    return parts.transpose(0, *order, 2 * axes + 1).reshape(batch, *whole, width // size**axes)
