"""Cross-entropy of codes against optax and NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from vq_jax import ops

cross_entropies = jax.jit(ops.code_cross_entropies, static_argnums=2)
cross_entropy = jax.jit(ops.code_cross_entropy, static_argnames="label_smoothing")


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropies_match_optax(smoothing):
    rng = np.random.default_rng(0)
    logits = np.float32(3.0) * rng.standard_normal((2, 3, 4, 7), np.float32)
    codes = rng.integers(0, 7, (2, 3, 4), np.int32)

    @jax.jit
    def optaxs(logits, codes):
        targets = optax.losses.smooth_labels(jax.nn.one_hot(codes, 7), smoothing)
        return optax.losses.softmax_cross_entropy(logits, targets)

    expected = np.asarray(optaxs(logits, codes))
    ours = cross_entropies(logits, codes, smoothing)
    np.testing.assert_allclose(ours, expected, rtol=1e-5)
    np.testing.assert_allclose(
        cross_entropy(logits, codes, label_smoothing=smoothing), expected.mean(), rtol=1e-5
    )
    mask = rng.random(codes.shape) < 0.5
    masked = cross_entropy(logits, codes, mask, label_smoothing=smoothing)
    np.testing.assert_allclose(masked, expected[mask].mean(), rtol=1e-5)
    half = cross_entropies(logits.astype(jnp.bfloat16), codes, smoothing)
    assert half.dtype == jnp.float32


def test_only_masked_positions_get_a_gradient_and_an_empty_mask_gives_zero():
    logits = np.random.default_rng(0).standard_normal((2, 5, 7), np.float32)
    codes = np.zeros((2, 5), np.int32)
    mask = np.arange(10).reshape(2, 5) % 3 == 0
    loss_and_grad = jax.jit(jax.value_and_grad(ops.code_cross_entropy))
    _, grad = loss_and_grad(logits, codes, mask)
    np.testing.assert_array_equal(np.any(np.asarray(grad) != 0, axis=-1), mask)
    assert loss_and_grad(logits, codes, np.zeros_like(mask))[0] == 0.0


def test_accuracy_counts_the_likeliest_codes():
    logits = np.eye(4, dtype=np.float32)[np.array([[1, 2, 0, 3]])]
    codes, mask = np.array([[1, 2, 3, 0]], np.int32), np.array([[True, False, True, True]])
    accuracy = jax.jit(ops.code_accuracy)
    assert float(accuracy(logits, codes)) == 0.5
    assert float(accuracy(logits, codes, mask)) == pytest.approx(1 / 3)
