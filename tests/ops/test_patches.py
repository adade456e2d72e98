"""Patches: cut and put together along any number of axes."""

import jax.numpy as jnp
import numpy as np
import pytest

from vq_jax import ops


@pytest.mark.parametrize("shape, size", [((2, 6, 2), 3), ((2, 4, 6, 3), 2), ((1, 4, 2, 6, 1), 2)])
def test_patches_hold_their_pixels_row_by_row_and_are_put_together_again(shape, size):
    x = jnp.asarray(np.random.default_rng(0).standard_normal(shape, np.float32))
    patches = ops.to_patches(x, size)
    spatial = len(shape) - 2
    assert patches.shape == (shape[0], *(s // size for s in shape[1:-1]), size**spatial * shape[-1])
    place = (1,) * spatial  # the second patch along each axis, where there is one
    place = tuple(min(p, s // size - 1) for p, s in zip(place, shape[1:-1], strict=True))
    window = tuple(slice(p * size, (p + 1) * size) for p in place)
    np.testing.assert_array_equal(patches[(0, *place)], x[(0, *window)].ravel())
    np.testing.assert_array_equal(ops.from_patches(patches, size), x)
