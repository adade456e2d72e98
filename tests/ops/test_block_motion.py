"""Motion by blocks, beside a search in NumPy and frames whose motion is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vq_jax import ops

RNG = np.random.default_rng(0)


def by_hand(frame, previous, size, radius):
    """The best place of each block of one frame [H, W, C], of which no two are equally good."""
    height, width, _ = frame.shape
    wide = np.pad(previous, ((radius, radius), (radius, radius), (0, 0)), mode="edge").astype(np.float64)
    rows, columns = height // size, width // size
    places = [(y, x) for y in range(-radius, radius + 1) for x in range(-radius, radius + 1)]
    apart = np.zeros((len(places), rows, columns))
    for number, (y, x) in enumerate(places):
        moved = wide[radius + y : radius + y + height, radius + x : radius + x + width]
        apart[number] = np.abs(moved - frame).sum(-1).reshape(rows, size, columns, size).sum((1, 3))
    found = np.zeros((rows, columns, 2), np.int32)
    for row in range(rows):
        for column in range(columns):
            around = apart[:, max(0, row - 1) : row + 2, max(0, column - 1) : column + 2].sum((1, 2))
            own = apart[:, row, column]
            way = 1.5e-3 * size**2 * frame.shape[-1] * np.array([np.hypot(*place) for place in places])
            cost = own + (around - own) / 64 + way
            found[row, column] = places[int(np.argmin(cost))]
    return found


@pytest.mark.parametrize(("size", "radius", "channels"), [(4, 3, 1), (8, 2, 3), (2, 0, 2)])
def test_the_motion_is_what_a_search_over_all_places_finds(size, radius, channels):
    frames, previous = RNG.uniform(-1, 1, (2, 2, 16, 24, channels)).astype(np.float32)
    found = jax.jit(ops.match_blocks, static_argnums=(2, 3))(frames, previous, size, radius)
    assert found.dtype == jnp.int32
    np.testing.assert_array_equal(
        found, [by_hand(*pair, size, radius) for pair in zip(frames, previous, strict=True)]
    )


def test_blocks_that_moved_are_found_and_moved_again():
    previous = np.full((1, 32, 32, 1), -1, np.float32)
    previous[0, 8:20, 6:18] = RNG.uniform(0, 1, (12, 12, 1))
    previous = jnp.asarray(previous)
    frame = jnp.roll(previous, (3, -2), axis=(1, 2))
    motion = ops.match_blocks(frame, previous, 8, 4)
    np.testing.assert_array_equal(ops.move_blocks(previous, motion, 8), frame)
    # What comes from above and from the right: the object, and black blocks beside it, which move along.
    np.testing.assert_array_equal(motion[0, 1:3, :2], np.broadcast_to([-3, 2], (2, 2, 2)))
    np.testing.assert_array_equal(motion[0, 1, 2], [-3, 2])
    # Where nothing tells a motion, there is none.
    np.testing.assert_array_equal(ops.match_blocks(previous, previous, 8, 4), np.zeros((1, 4, 4, 2)))


def test_noise_does_not_move():
    noise = (-1 + 1e-3 * RNG.uniform(-1, 1, (2, 2, 16, 16, 1))).astype(
        np.float32
    )  # an eighth of a grey level
    motion = jax.jit(ops.match_blocks, static_argnums=(2, 3))(*map(jnp.asarray, noise), 4, 3)
    np.testing.assert_array_equal(motion, np.zeros((2, 4, 4, 2)))


def test_beyond_the_edges_the_outermost_pixels_go_on():
    previous = jnp.arange(16, dtype=jnp.float32).reshape(1, 4, 4, 1)
    motion = jnp.array([[[[-2, 0], [0, 3]], [[1, -1], [9, 9]]]], jnp.int32)
    moved = ops.move_blocks(previous, motion, 2)[0, ..., 0]
    np.testing.assert_array_equal(moved, [[0, 1, 3, 3], [0, 1, 7, 7], [12, 12, 15, 15], [12, 12, 15, 15]])


def test_no_gradient_passes_to_the_motion_and_all_of_it_to_the_pixels():
    frames, previous = jnp.asarray(RNG.uniform(-1, 1, (2, 1, 8, 8, 1)).astype(np.float32))

    def total(frames, previous):
        return jnp.sum(ops.move_blocks(previous, ops.match_blocks(frames, previous, 4, 2), 4))

    of_frames, of_previous = jax.jit(jax.grad(total, argnums=(0, 1)))(frames, previous)
    assert not np.any(of_frames) and float(jnp.sum(of_previous)) == 64
