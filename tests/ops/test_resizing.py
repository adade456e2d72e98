"""Area averages and bicubic interpolation as matrices; PyTorch's are in the parity test."""

import jax.numpy as jnp
import numpy as np
import pytest

from vq_jax import ops


def test_area_windows_are_uneven_and_overlap_where_the_sizes_do_not_divide():
    third = np.float32(1 / 3)
    expected = [[0.5, 0.5, 0, 0, 0], [0, third, third, third, 0], [0, 0, 0, 0.5, 0.5]]
    np.testing.assert_allclose(ops.area_matrix(5, 3), expected)
    np.testing.assert_array_equal(ops.area_matrix(4, 4), np.eye(4))
    np.testing.assert_allclose(ops.area_matrix(7, 1), np.full((1, 7), 1 / 7), rtol=1e-6)


@pytest.mark.parametrize("sizes", [(1, 5), (3, 7), (4, 16), (13, 16)])
def test_rows_of_bicubic_weights_add_up_to_one_and_keep_straight_lines(sizes):
    size, new_size = sizes
    matrix = ops.bicubic_matrix(size, new_size)
    np.testing.assert_allclose(matrix.sum(axis=1), 1.0, atol=1e-6)
    if size < 13:
        return
    places = (np.arange(new_size) + 0.5) * size / new_size - 0.5
    inside = (places > 2) & (places < size - 3)
    # With a = -0.75 a line is kept to within a few hundredths; a = -0.5 would keep it exactly.
    difference = np.abs(matrix @ np.arange(size) - places)[inside]
    assert 1e-3 < difference.max() < 0.1


def test_every_spatial_axis_is_resized():
    x = np.random.default_rng(0).normal(size=(2, 6, 4, 3)).astype(np.float32)
    found = ops.resize(jnp.asarray(x), (3, 2), ops.area_matrix)
    expected = x.reshape(2, 3, 2, 2, 2, 3).mean(axis=(2, 4))
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert ops.resize(jnp.asarray(x[:, 0, 0]), (), ops.area_matrix).shape == (2, 3)
