"""Group normalisation: both forms against NumPy, their gradients against each other."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vq_jax import ops
from vq_jax.ops import normalization

FORMS = [normalization._by_group, normalization._by_channel, ops.group_norm]
JITTED = [jax.jit(form, static_argnames=("groups", "epsilon")) for form in FORMS]


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def oracle(x, scale, bias, groups, epsilon):
    flat = np.asarray(x, np.float64).reshape(x.shape[0], -1, groups, x.shape[-1] // groups)
    mean, variance = flat.mean((1, 3), keepdims=True), flat.var((1, 3), keepdims=True)
    return ((flat - mean) / np.sqrt(variance + epsilon)).reshape(x.shape) * scale + bias


@pytest.mark.parametrize("form", JITTED, ids=["by group", "by channel", "public"])
@pytest.mark.parametrize("shape", [(2, 5, 8), (3, 4, 6, 8), (2, 2, 3, 4, 8)])
def test_group_norm_matches_numpy(form, shape):
    x = np.float32(3.0) * normal(*shape) + np.float32(2.0)
    scale, bias = normal(8, seed=1), normal(8, seed=2)
    actual = form(x, scale, bias, groups=4, epsilon=1e-3)
    np.testing.assert_allclose(actual, oracle(x, scale, bias, 4, 1e-3), atol=1e-5)  # float32 sums


def test_the_gradients_of_both_forms_agree():
    x = normal(2, 4, 6, 8) + np.float32(1.0)
    scale, bias, weight = (normal(8, seed=seed) for seed in (1, 2, 3))

    def run(form):
        def loss(x, scale, bias):
            y = form(x, scale, bias, groups=2, epsilon=1e-6)
            return jnp.sum(jnp.sin(y) * jnp.broadcast_to(weight, y.shape))

        return jax.jit(jax.grad(loss, (0, 1, 2)))(x, scale, bias)

    for a, b in zip(run(FORMS[0]), run(FORMS[1]), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)  # float32 sums in another order


@pytest.mark.parametrize("form", JITTED, ids=["by group", "by channel", "public"])
def test_a_constant_group_gives_the_bias_and_finite_gradients(form):
    x = np.full((1, 3, 3, 4), 0.3, np.float32)
    one, half = np.ones(4, np.float32), np.full(4, 0.5, np.float32)

    def run(x):
        return jnp.sum(form(x, one, half, groups=2, epsilon=1e-6))

    y, grad = jax.jit(jax.value_and_grad(run))(x)
    assert float(y) == pytest.approx(0.5 * 36, rel=1e-2)  # rounding of the mean over sqrt(1e-6)
    assert np.all(np.isfinite(grad))


@pytest.mark.parametrize("form", JITTED, ids=["by group", "by channel", "public"])
def test_statistics_are_float32_for_any_input_dtype(form):
    x = (normal(2, 16, 16, 8) + np.float32(4.0)).astype(jnp.bfloat16)
    y = form(x, np.ones(8, np.float32), np.zeros(8, np.float32), groups=4, epsilon=1e-6)
    assert y.dtype == jnp.bfloat16
    expected = oracle(np.asarray(x, np.float32), 1.0, 0.0, 4, 1e-6)
    np.testing.assert_allclose(np.asarray(y, np.float32), expected, rtol=1e-2, atol=1e-2)  # bfloat16 result
