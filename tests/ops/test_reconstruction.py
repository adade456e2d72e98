"""Picture ranges, heads and losses, against SciPy's densities and worked cases."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from vq_jax import ops

reconstruction_loss = jax.jit(ops.reconstruction_loss, static_argnums=2)


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def test_pictures_are_normalized_to_minus_one_and_one_and_back():
    pictures = jnp.arange(256, dtype=jnp.uint8).reshape(1, 16, 16, 1)
    normalized = ops.normalize_pictures(pictures)
    assert normalized.dtype == jnp.float32
    assert float(normalized.min()) == -1.0 and float(normalized.max()) == 1.0
    np.testing.assert_array_equal(ops.to_uint8(normalized), pictures)


def test_float_pictures_are_left_alone_and_wild_values_clipped():
    pictures = jnp.array([[[[-3.0, 0.0, 3.0]]]])
    assert ops.normalize_pictures(pictures) is pictures
    assert ops.to_uint8(pictures).tolist() == [[[[0, 128, 255]]]]


def test_l2_and_l1_are_means_over_everything():
    a, b = normal(2, 3, 3, 2), normal(2, 3, 3, 2, seed=1)
    l2, l1 = (reconstruction_loss(a, b, kind) for kind in ("l2", "l1"))
    assert float(l2) == pytest.approx(np.mean((a - b) ** 2), rel=1e-5)
    assert float(l1) == pytest.approx(np.mean(np.abs(a - b)), rel=1e-5)


def test_bernoulli_is_the_cross_entropy_of_scipy():
    logits = np.float32(3.0) * normal(2, 4, 4, 1)
    white = np.random.default_rng(1).random((2, 4, 4, 1)) < 0.5
    pictures = np.where(white, np.float32(1.0), np.float32(-1.0))
    p = 1.0 / (1.0 + np.exp(-logits.astype(np.float64)))
    expected = -scipy.stats.bernoulli.logpmf(white.astype(int), p).mean()
    assert float(reconstruction_loss(logits, pictures, "bernoulli")) == pytest.approx(expected, rel=1e-5)


def test_log_laplace_is_scipys_laplace_density_of_the_logit():
    outputs = normal(2, 4, 4, 6)
    pictures = np.random.default_rng(1).uniform(-1.0, 1.0, (2, 4, 4, 3)).astype(np.float32)
    x = 0.1 + 0.8 * 0.5 * (np.asarray(pictures, np.float64) + 1.0)
    location, log_scale = np.split(np.asarray(outputs, np.float64), 2, -1)
    density = scipy.stats.laplace.logpdf(np.log(x / (1 - x)), location, np.exp(log_scale))
    expected = -(density - np.log(x) - np.log(1 - x)).mean()
    assert float(reconstruction_loss(outputs, pictures, "log_laplace")) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("head", ops.HEADS)
def test_the_loss_is_lowest_where_the_head_shows_the_picture(head):
    picture = jnp.array([[[[-0.6, 0.1, 0.8]]]])
    kind = "l2" if head == "picture" else head

    def loss(outputs):
        return ops.reconstruction_loss(outputs, picture, kind)

    outputs = jnp.zeros((1, 1, 1, ops.head_channels(head, 3)))
    step = jax.jit(lambda outputs: outputs - 0.05 * jax.grad(loss)(outputs))
    for _ in range(3000):
        outputs = step(outputs)
    # the Laplace median moves by steps of constant size
    np.testing.assert_allclose(ops.head_to_picture(outputs, head), picture, atol=0.1)


def test_an_unknown_loss_is_refused():
    with pytest.raises(ValueError, match="unknown reconstruction loss 'huber'"):
        ops.reconstruction_loss(jnp.zeros((1, 1)), jnp.zeros((1, 1)), "huber")


def test_variance_loss_is_zero_at_variance_one_and_grows_with_distance():
    unit = np.array([[[1.0, -1.0], [-1.0, 1.0]]], np.float32)
    loss_and_grad = jax.jit(jax.value_and_grad(lambda z: ops.variance_loss(z)))
    assert float(loss_and_grad(unit)[0]) == pytest.approx(0.0, abs=1e-6)
    assert float(loss_and_grad(np.float32(2.0) * unit)[0]) == pytest.approx(9.0)
    _, grad = loss_and_grad(np.float32(0.5) * unit)
    np.testing.assert_array_equal(np.sign(grad), -np.sign(unit))
