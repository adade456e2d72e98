"""Group normalisation: both forms against NumPy, their gradients against each other."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vq_jax import ops
from vq_jax.ops import normalization

FORMS = [normalization._by_group, normalization._by_channel, ops.group_norm]


def oracle(x, scale, bias, groups, epsilon):
    flat = np.asarray(x, np.float64).reshape(x.shape[0], -1, groups, x.shape[-1] // groups)
    mean, variance = flat.mean((1, 3), keepdims=True), flat.var((1, 3), keepdims=True)
    return ((flat - mean) / np.sqrt(variance + epsilon)).reshape(x.shape) * scale + bias


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("shape", [(2, 5, 8), (3, 4, 6, 8), (2, 2, 3, 4, 8)])
def test_group_norm_matches_numpy(getkey, form, shape):
    x = 3.0 * jax.random.normal(getkey(), shape) + 2.0
    scale, bias = (np.asarray(jax.random.normal(getkey(), (8,))) for _ in range(2))
    actual = form(x, jnp.asarray(scale), jnp.asarray(bias), groups=4, epsilon=1e-3)
    np.testing.assert_allclose(actual, oracle(x, scale, bias, 4, 1e-3), atol=1e-5)  # float32 sums


def test_the_gradients_of_both_forms_agree(getkey):
    x = jax.random.normal(getkey(), (2, 4, 6, 8)) + 1.0
    scale, bias, weight = (jax.random.normal(getkey(), (8,)) for _ in range(3))

    def run(form):
        def loss(x, scale, bias):
            y = form(x, scale, bias, groups=2, epsilon=1e-6)
            return jnp.sum(jnp.sin(y) * jnp.broadcast_to(weight, y.shape))

        return jax.grad(loss, (0, 1, 2))(x, scale, bias)

    for a, b in zip(run(FORMS[0]), run(FORMS[1]), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)  # float32 sums in another order


@pytest.mark.parametrize("form", FORMS)
def test_a_constant_group_gives_the_bias_and_finite_gradients(form):
    x = jnp.full((1, 3, 3, 4), 0.3)
    one, half = jnp.ones(4), jnp.full(4, 0.5)

    def run(x):
        return jnp.sum(form(x, one, half, groups=2, epsilon=1e-6))

    y, grad = jax.value_and_grad(run)(x)
    assert float(y) == pytest.approx(0.5 * 36, rel=1e-2)  # rounding of the mean over sqrt(1e-6)
    assert bool(jnp.all(jnp.isfinite(grad)))


@pytest.mark.parametrize("form", FORMS)
def test_statistics_are_float32_for_any_input_dtype(getkey, form):
    x = (jax.random.normal(getkey(), (2, 16, 16, 8)) + 4.0).astype(jnp.bfloat16)
    y = form(x, jnp.ones(8), jnp.zeros(8), groups=4, epsilon=1e-6)
    assert y.dtype == jnp.bfloat16
    expected = oracle(np.asarray(x, np.float32), 1.0, 0.0, 4, 1e-6)
    np.testing.assert_allclose(np.asarray(y, np.float32), expected, rtol=1e-2, atol=1e-2)  # bfloat16 result
