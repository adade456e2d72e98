"""Cross-entropy of codes against optax and NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from vq_jax import ops


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropies_match_optax(getkey, smoothing):
    logits = 3.0 * jax.random.normal(getkey(), (2, 3, 4, 7))
    codes = jax.random.randint(getkey(), (2, 3, 4), 0, 7)
    targets = optax.losses.smooth_labels(jax.nn.one_hot(codes, 7), smoothing)
    expected = optax.losses.softmax_cross_entropy(logits, targets)
    ours = ops.code_cross_entropies(logits, codes, smoothing)
    np.testing.assert_allclose(ours, expected, rtol=1e-5)
    np.testing.assert_allclose(
        ops.code_cross_entropy(logits, codes, label_smoothing=smoothing), expected.mean(), rtol=1e-5
    )
    mask = jax.random.bernoulli(getkey(), 0.5, codes.shape)
    masked = ops.code_cross_entropy(logits, codes, mask, label_smoothing=smoothing)
    np.testing.assert_allclose(masked, np.asarray(expected)[np.asarray(mask)].mean(), rtol=1e-5)
    half = ops.code_cross_entropies(logits.astype(jnp.bfloat16), codes, smoothing)
    assert half.dtype == jnp.float32


def test_only_masked_positions_get_a_gradient_and_an_empty_mask_gives_zero(getkey):
    logits = jax.random.normal(getkey(), (2, 5, 7))
    codes = jnp.zeros((2, 5), jnp.int32)
    mask = jnp.arange(10).reshape(2, 5) % 3 == 0
    grad = jax.grad(ops.code_cross_entropy)(logits, codes, mask)
    np.testing.assert_array_equal(jnp.any(grad != 0, axis=-1), mask)
    assert ops.code_cross_entropy(logits, codes, jnp.zeros_like(mask)) == 0.0


def test_accuracy_counts_the_likeliest_codes():
    logits = jax.nn.one_hot(jnp.array([[1, 2, 0, 3]]), 4)
    codes = jnp.array([[1, 2, 3, 0]])
    assert ops.code_accuracy(logits, codes) == 0.5
    assert ops.code_accuracy(logits, codes, jnp.array([[True, False, True, True]])) == pytest.approx(1 / 3)
