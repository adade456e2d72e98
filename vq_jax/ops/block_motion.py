"""Motion between two frames by blocks: found by comparison, and blocks of the earlier frame moved along."""

import jax
import jax.numpy as jnp

from vq_jax.ops.meshes import auto_axes, rows_of
from vq_jax.ops.patches import pad_edges
from vq_jax.types import Array, Float, Int

_NEIGHBOURS = 1 / 64  # weight of the differences around a block: where its own are equal, it moves with them
_STILL = 1.5e-3  # mean difference that a motion of one pixel must be worth: noise in the dark is not


@auto_axes(lambda frames, *_, **__: rows_of(frames))
def match_blocks(
    frames: Float[Array, "B H W C"], previous: Float[Array, "B H W C"], size: int, radius: int
) -> Int[Array, "B h w 2"]:
    """Finds for each block of a frame where in the previous frame it is most alike, by trying all places.

    The difference of two blocks is the sum of the absolute differences of their pixels, plus one part in
    64 of that of the eight blocks around, so that a block without anything in it moves as its neighbours do,
    and a small part for each pixel of the way, so that noise does not move.

    Args:
      frames: H and W are multiples of `size`.
      previous: the frame before each; its outermost pixels go on beyond its edges.
      size: pixels of a block along rows and columns.
      radius: the longest motion along rows and along columns, in pixels.

    Returns:
      Rows and columns from a block to the place in the previous frame that it came from, in pixels, int32 in
      [-radius, radius]. Of equally good places it is the nearest. No gradient passes.

    References:
      Jain and Jain 1981, Displacement measurement and its application in interframe image coding, IEEE
      Transactions on Communications 29, section II (there over fewer places, and without the neighbours).
    """
    frames, previous = jax.lax.stop_gradient((frames, previous))
    batch, height, width, _ = frames.shape
    places = 2 * radius + 1
    wide = pad_edges(previous, ((radius, radius), (radius, radius)))
    columns_of_blocks = jnp.repeat(jnp.eye(width // size, dtype=jnp.float32), size, axis=0)
    steps = jnp.arange(-radius, radius + 1, dtype=jnp.int32)
    still = _STILL * size**2 * frames.shape[-1]

    def differences(row: Int[Array, ""]) -> Float[Array, "places B h w"]:
        rows = jax.lax.dynamic_slice_in_dim(wide, row + radius, height, axis=1)
        moved = (rows[:, :, column : column + width] for column in range(places))
        apart = jnp.stack([jnp.sum(jnp.abs(place - frames), axis=-1) for place in moved])
        across = jnp.matmul(apart, columns_of_blocks, precision="highest")  # sums; on CPU much faster so
        blocks = across.reshape(places, batch, height // size, size, width // size).sum(3)
        around = jnp.pad(blocks, ((0, 0), (0, 0), (1, 1), (1, 1)))
        down = around[:, :, :-2] + around[:, :, 1:-1] + around[:, :, 2:]
        square = down[..., :-2] + down[..., 1:-1] + down[..., 2:]
        length = jnp.hypot(row.astype(jnp.float32), steps.astype(jnp.float32))
        return blocks + _NEIGHBOURS * (square - blocks) + still * length[:, None, None, None]

    all_places = jax.lax.map(differences, steps).reshape(places * places, *frames.shape[:1], -1)
    best = jnp.argmin(all_places, axis=0).astype(jnp.int32)
    motion = jnp.stack([best // places, best % places], axis=-1) - radius
    return motion.reshape(batch, height // size, width // size, 2)


@auto_axes(lambda previous, *_, **__: rows_of(previous))
def move_blocks(
    previous: Float[Array, "B H W C"], motion: Int[Array, "B h w 2"], size: int
) -> Float[Array, "B H W C"]:
    """Puts a frame together from blocks of the previous one: what `match_blocks` found, undone.

    Args:
      previous: its outermost pixels go on beyond its edges.
      motion: rows and columns from each block to the place in `previous` that it is taken from, in pixels.
      size: pixels of a block along rows and columns.
    """
    batch, height, width, channels = previous.shape
    by_pixel = jnp.repeat(jnp.repeat(motion, size, axis=1), size, axis=2)
    rows = jnp.arange(height, dtype=jnp.int32)[None, :, None] + by_pixel[..., 0]
    columns = jnp.arange(width, dtype=jnp.int32)[None, None] + by_pixel[..., 1]
    places = jnp.clip(rows, 0, height - 1) * width + jnp.clip(columns, 0, width - 1)
    pixels = previous.reshape(batch, -1, channels)
    taken = jnp.take_along_axis(pixels, places.reshape(batch, -1, 1), axis=1, mode="clip")
    return taken.reshape(previous.shape)
