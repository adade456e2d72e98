"""Arithmetic of transformers against NumPy, and the invariances of rotary positions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vq_jax import ops


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def test_rms_norm_matches_numpy_and_keeps_the_dtype():
    x, scale = normal(2, 3, 8) * np.float32(4.0), normal(8, seed=1)
    wide = np.asarray(x, np.float64)
    expected = wide / np.sqrt((wide**2).mean(-1, keepdims=True) + 1e-6) * scale
    rms_norm = jax.jit(ops.rms_norm)
    np.testing.assert_allclose(rms_norm(x, scale), expected, rtol=1e-5, atol=1e-6)
    assert rms_norm(x.astype(jnp.bfloat16), scale).dtype == jnp.bfloat16


def test_coordinates_run_in_raster_order():
    expected = [[0, 0], [0, 1], [0, 2], [1, 0], [1, 1], [1, 2]]
    np.testing.assert_array_equal(ops.grid_coordinates((2, 3)), expected)
    assert ops.grid_coordinates((2, 3, 4)).shape == (24, 3)


@pytest.mark.parametrize("grid,width", [((7,), 8), ((3, 4), 8), ((2, 3, 4), 16)])
def test_products_of_rotated_vectors_depend_on_differences_of_coordinates(grid, width):
    query, key = normal(1, 1, 1, width), normal(1, 1, 1, width, seed=1)
    coordinates = ops.grid_coordinates(grid)

    rotate = jax.jit(ops.rotate)

    def products(shift):
        angles = ops.rotary_angles(coordinates + shift, width)
        turned = rotate(np.repeat(key, len(coordinates), 1), angles)
        return np.einsum("bqaf,btaf->t", rotate(query, angles[:1]), turned)

    # float32 sines of angles up to 40
    np.testing.assert_allclose(products(0), products(35), atol=1e-4)
    lengths = np.linalg.norm(rotate(query, ops.rotary_angles(coordinates[-1:], width)))
    np.testing.assert_allclose(lengths, np.linalg.norm(query), rtol=1e-6)
    assert len(np.unique(products(0).round(4))) == len(coordinates)  # all differ


def test_every_axis_gets_its_pairs_and_narrow_heads_are_refused():
    angles = ops.rotary_angles(np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1]]), 16)
    assert [(row != 0).sum() for row in angles] == [3, 3, 2]
    for width in (4, 7):
        with pytest.raises(ValueError, match=f"at least 6 for 3 spatial axes, got {width}"):
            ops.rotary_angles(np.zeros((1, 3)), width)


attention = jax.jit(ops.attention, static_argnames="causal")


@pytest.mark.parametrize("causal", [False, True])
def test_attention_matches_numpy(causal):
    query, key, value = (normal(2, 5, 3, 4, seed=seed) for seed in range(3))
    scores = np.einsum("btaf,bsaf->bats", query, key) / 2.0
    if causal:
        scores = np.where(np.tril(np.ones((5, 5), bool)), scores, -np.inf)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    expected = np.einsum("bats,bsaf->btaf", weights / weights.sum(-1, keepdims=True), value)
    np.testing.assert_allclose(attention(query, key, value, causal=causal), expected, atol=1e-5)


def test_cached_attention_is_a_row_of_causal_attention():
    query, key, value = (normal(2, 5, 3, 4, seed=seed) for seed in range(3))
    whole = np.asarray(attention(query, key, value, causal=True))
    cached_attention = jax.jit(ops.cached_attention)
    caches = [part.swapaxes(1, 2).reshape(6, 5, 4) for part in (key, value)]
    for position in range(5):
        row = cached_attention(query[:, position].reshape(6, 4), *caches, np.int32(position))
        np.testing.assert_allclose(row.reshape(2, 3, 4), whole[:, position], atol=1e-6)
