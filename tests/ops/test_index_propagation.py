"""Assignments to all codes in blocks against the same formulas on whole arrays."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vq_jax import ops
from vq_jax.ops import index_propagation

ROWS, DIM = 12, 5


def normal(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape, np.float32))


@pytest.fixture(params=[(8, 19), pytest.param((8, 16), marks=pytest.mark.ci), (32, 7)], ids=str)
def size(request, monkeypatch):
    """Codes, in blocks of eight on CPU: with a rest, without one, and fewer than a block has."""
    block, codes = request.param
    monkeypatch.setattr(index_propagation, "_SHORTEST_BLOCK", block)
    monkeypatch.setattr(index_propagation, "_CPU_BLOCK_PRODUCTS", 1)
    monkeypatch.setattr(index_propagation, "_BLOCK_PRODUCTS", 2 * block * ROWS)  # other blocks elsewhere
    return codes


def dense(z, codebook):
    """The authors' formula: a one-hot assignment with the softmax's gradient, times the codebook."""
    products = z @ codebook.T
    p = jax.nn.softmax(products)
    hot = jax.nn.one_hot(jnp.argmax(products, axis=1), codebook.shape[0])
    return (hot + p - jax.lax.stop_gradient(p)) @ codebook


def dense_entropy(z, codebook, temperature):
    logits = z @ codebook.T / temperature
    p, mean = jax.nn.softmax(logits), jax.nn.softmax(logits).mean(0)
    of_rows = -(p * jax.nn.log_softmax(logits)).sum(1).mean()
    return of_rows + (mean * jnp.log(mean + 1e-5)).sum()


def with_gradients(function, *inputs):
    return jax.jit(jax.value_and_grad(function, (0, 1)))(*inputs)


def close(found, expected):
    """Each array to 1e-5 of its largest element."""

    def compare(a, b):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-5 * max(1.0, np.abs(b).max()))

    jax.tree.map(compare, found, expected)


def test_values_and_gradients_are_those_of_the_dense_formula(size):
    z, codebook, weight = normal(ROWS, DIM), normal(size, DIM, seed=1), normal(ROWS, DIM, seed=2)
    blocked, whole = (
        with_gradients(lambda *x, function=function: (weight * function(*x)).sum(), z, codebook)
        for function in (lambda *x: ops.propagate_indices(*x)[0], dense)
    )
    close(blocked, whole)
    quantized, indices = ops.propagate_indices(z, codebook)
    np.testing.assert_array_equal(indices, np.argmax(np.asarray(z) @ np.asarray(codebook).T, axis=1))
    np.testing.assert_array_equal(quantized, codebook[indices])


@pytest.mark.parametrize("temperature", [0.01, 1.0])
def test_entropy_and_its_gradients_are_those_of_the_dense_formula(size, temperature):
    z, codebook = normal(ROWS, DIM), np.float32(temperature) * normal(size, DIM, seed=1)
    blocked, whole = (
        with_gradients(lambda *x, function=function: function(*x, temperature), z, codebook)
        for function in (ops.product_entropy, dense_entropy)
    )
    close(blocked, whole)


def test_the_lowest_of_the_largest_products_wins_and_a_row_that_is_no_number_gets_a_code(size):
    rng = np.random.default_rng(size)
    z, codebook = (rng.integers(-2, 3, (rows, 2)).astype(np.float32) for rows in (21, size))  # many ties
    expected = np.argmax(z @ codebook.T, axis=1)
    z[3] = np.nan
    found = np.asarray(jax.jit(lambda *x: ops.largest_product(*x))(z, codebook))
    assert 0 <= found[3] < size
    np.testing.assert_array_equal(np.delete(found, 3), np.delete(expected, 3))


def test_a_training_pass_over_a_large_codebook_needs_megabytes():
    latents, codes = (
        jax.ShapeDtypeStruct((2048, 8), jnp.float32),
        jax.ShapeDtypeStruct((2**18, 8), jnp.float32),
    )

    def loss(z, codebook):
        quantized, _ = ops.propagate_indices(z, codebook)
        return jnp.mean(jnp.square(quantized - z)) + ops.product_entropy(z, codebook, 0.01)

    program = jax.jit(jax.value_and_grad(loss, (0, 1))).lower(latents, codes).compile()
    # A single array of products takes 2,048 MiB, and the dense formula holds several.
    assert program.memory_analysis().temp_size_in_bytes < 512 * 2**20
