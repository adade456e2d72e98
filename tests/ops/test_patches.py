"""Patches: cut and put together along any number of axes."""

import math

import jax.numpy as jnp
import numpy as np
import pytest

from vq_jax import ops


@pytest.mark.parametrize(
    "shape, size", [((2, 6, 2), 3), ((2, 4, 6, 3), 2), ((1, 4, 2, 6, 1), 2), ((2, 4, 6, 3), (1, 3))]
)
def test_patches_hold_their_pixels_row_by_row_and_are_put_together_again(shape, size):
    x = jnp.asarray(np.random.default_rng(0).standard_normal(shape, np.float32))
    patches = ops.to_patches(x, size)
    sizes = np.broadcast_to(size, len(shape) - 2).tolist()
    places = [length // size for length, size in zip(shape[1:-1], sizes, strict=True)]
    assert patches.shape == (shape[0], *places, np.prod(sizes) * shape[-1])
    place = tuple(min(1, most - 1) for most in places)  # the second patch along each axis, where there is one
    window = tuple(slice(p * size, (p + 1) * size) for p, size in zip(place, sizes, strict=True))
    np.testing.assert_array_equal(patches[(0, *place)], x[(0, *window)].ravel())
    np.testing.assert_array_equal(ops.from_patches(patches, size), x)


def test_the_outermost_pixels_are_repeated():
    x = jnp.asarray(np.arange(6.0, dtype=np.float32).reshape(1, 2, 3, 1))
    padded = np.asarray(ops.pad_edges(x, ((1, 0), (0, 2))))[0, ..., 0]
    np.testing.assert_array_equal(padded, [[0, 1, 2, 2, 2], [0, 1, 2, 2, 2], [3, 4, 5, 5, 5]])


@pytest.mark.parametrize("sizes, channels", [((4, 2, 2), 1), ((3, 2), 3)])
def test_the_slowest_waves_of_a_patch_come_first_and_are_at_right_angles(sizes, channels):
    total = math.prod(sizes) * channels
    waves = ops.cosine_patches(sizes, channels, total + 2)
    np.testing.assert_allclose(waves.T @ waves, np.diag([1.0] * total + [0.0] * 2), atol=1e-6)
    np.testing.assert_allclose(waves[:, 0], total**-0.5, rtol=1e-6)
    np.testing.assert_array_equal(ops.cosine_patches(sizes, channels, 3), waves[:, :3])
    rising = np.broadcast_to(np.arange(sizes[0]).reshape(-1, *[1] * len(sizes)), (*sizes, channels)).ravel()
    energy = (waves.T @ rising) ** 2
    assert energy[: total // 3].sum() > 0.98 * energy.sum()


def test_waves_are_those_of_the_cosine_transform():
    first = np.cos(np.pi * (np.arange(4) + 0.5) / 4) / 2**0.5
    np.testing.assert_allclose(
        ops.cosine_patches((4,), 1, 2), np.stack([np.full(4, 0.5), first], 1), atol=1e-6
    )
