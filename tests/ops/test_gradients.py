"""Gradients through a quantizer against matrices worked out in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vq_jax import ops


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def pulled_back(function, *inputs, cotangent):
    value, pullback = jax.jit(lambda *inputs: jax.vjp(function, *inputs))(*inputs)
    return np.asarray(value), [np.asarray(gradient) for gradient in jax.jit(lambda c: pullback(c))(cotangent)]


def rotation(u, v):
    """The rotation in the plane of two unit vectors that takes u to v, by Rodrigues' formula."""
    turn = np.outer(v, u) - np.outer(u, v)
    return np.eye(len(u)) + turn + turn @ turn / (1.0 + u @ v)


def test_the_rotation_trick_turns_the_gradient_back_and_scales_it():
    z, quantized, cotangent = normal(20, 5), normal(20, 5, seed=1), normal(20, 5, seed=2)
    value, (of_z, of_quantized) = pulled_back(ops.rotation_trick, z, quantized, cotangent=cotangent)
    np.testing.assert_array_equal(value, quantized)
    assert not of_quantized.any()
    for row in range(20):
        a, b = (x[row].astype(np.float64) for x in (z, quantized))
        lengths = np.linalg.norm(a), np.linalg.norm(b)
        matrix = rotation(a / lengths[0], b / lengths[1])
        np.testing.assert_allclose(matrix @ a * lengths[1] / lengths[0], b, atol=1e-9)
        expected = lengths[1] / lengths[0] * matrix.T @ cotangent[row]
        np.testing.assert_allclose(of_z[row], expected, rtol=1e-4, atol=1e-5)


def test_opposite_vectors_are_reflected_into_each_other():
    z = normal(20, 4)
    quantized = np.float32(-1.0) * z + np.float32(1e-6) * normal(20, 4, seed=1)
    cotangent = normal(20, 4, seed=2)
    value, (gradient, _) = pulled_back(ops.rotation_trick, z, quantized, cotangent=cotangent)
    np.testing.assert_array_equal(value, quantized)
    u = z / np.linalg.norm(z, axis=1, keepdims=True)
    reflected = cotangent - 2.0 * u * (u * cotangent).sum(1, keepdims=True)
    np.testing.assert_allclose(gradient, reflected, atol=1e-4)


def test_a_vector_without_direction_passes_the_gradient_straight_through():
    z, quantized, cotangent = normal(3, 4), normal(3, 4, seed=1), normal(3, 4, seed=2)
    z[0], quantized[1] = 0.0, 0.0
    value, (gradient, _) = pulled_back(ops.rotation_trick, z, quantized, cotangent=cotangent)
    np.testing.assert_array_equal(value, quantized)
    np.testing.assert_array_equal(gradient[:2], cotangent[:2])
    assert np.isfinite(gradient).all() and np.abs(gradient[2] - cotangent[2]).max() > 1e-2


def test_the_gradient_of_a_short_latent_grows_a_hundredfold_at_most():
    z, quantized, cotangent = np.float32(1e-5) * normal(8, 4), normal(8, 4, seed=1), normal(8, 4, seed=2)
    _, (gradient, _) = pulled_back(ops.rotation_trick, z, quantized, cotangent=cotangent)
    lengths = np.linalg.norm(gradient, axis=1) / np.linalg.norm(cotangent, axis=1)
    np.testing.assert_allclose(lengths, 100.0, rtol=1e-4)


def test_one_channel_is_scaled():
    z, quantized = np.array([[2.0], [-1.0]], np.float32), np.array([[3.0], [-0.5]], np.float32)
    _, (gradient, _) = pulled_back(ops.rotation_trick, z, quantized, cotangent=np.ones((2, 1), np.float32))
    np.testing.assert_allclose(gradient, [[1.5], [0.5]], rtol=1e-6)


@pytest.mark.parametrize("deviation", [0.0, 0.1])
def test_diveq_moves_latents_by_the_length_of_the_error_and_gradients_reach_both(deviation):
    z, quantized, cotangent = normal(20, 5), normal(20, 5, seed=1), normal(20, 5, seed=2)
    noise = np.float32(deviation) * normal(20, 5, seed=3)
    value, gradients = pulled_back(ops.diveq, z, quantized, noise, cotangent=cotangent)
    error = quantized.astype(np.float64) - z
    length = np.linalg.norm(error, axis=1, keepdims=True)
    direction = (error + noise) / np.linalg.norm(error + noise, axis=1, keepdims=True)
    np.testing.assert_allclose(value, z + length * direction, atol=1e-5)
    if not deviation:
        np.testing.assert_allclose(value, quantized, atol=1e-6)
    along = (cotangent * direction).sum(1, keepdims=True) * error / length
    np.testing.assert_allclose(gradients[0], cotangent - along, atol=1e-5)
    np.testing.assert_allclose(gradients[1], along, atol=1e-5)
    assert not gradients[2].any()


def test_diveq_of_a_latent_on_its_code_has_the_identitys_gradient():
    z, cotangent = normal(2, 3), normal(2, 3, seed=1)
    value, (of_z, of_quantized, _) = pulled_back(ops.diveq, z, z, np.zeros_like(z), cotangent=cotangent)
    np.testing.assert_array_equal(value, z)
    np.testing.assert_array_equal(of_z, cotangent)
    assert not of_quantized.any()


def test_directional_noise_has_the_deviation_that_is_asked_for():
    drawn = np.asarray(ops.directional_noise(jax.random.key(0), jnp.zeros((2000, 4)), 0.05))
    assert drawn.std() == pytest.approx(0.05, rel=0.05) and abs(drawn.mean()) < 2e-3
