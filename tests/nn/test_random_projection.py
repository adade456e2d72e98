"""Random projection against NumPy; what every quantizer does is in the contract test."""

import jax
import jax.numpy as jnp
import numpy as np
from jitted import apply, init

from vq_jax import nn

WIDTH, INNER = 6, 3
QUANTIZER = nn.RandomProjectionQuantizer(11, WIDTH, INNER)
# Far from mean zero and variance one, in each latent by itself.
Z = np.random.default_rng(0).normal(3.0, 5.0, (4, 9, WIDTH)).astype(np.float32)


def made(getkey):
    variables = init(QUANTIZER, getkey(), Z)
    table = {name: np.asarray(value, np.float64) for name, value in variables["codebook"].items()}
    return variables, table["projection"], table["codes"]


def test_labels_are_those_of_the_nearest_direction_and_vectors_are_mapped_back(getkey):
    variables, projection, codes = made(getkey)
    flat = Z.reshape(-1, WIDTH).astype(np.float64)
    normal = (flat - flat.mean(1, keepdims=True)) / np.sqrt(flat.var(1, keepdims=True) + 1e-5)
    inner = normal @ projection
    cosine = (inner / np.linalg.norm(inner, axis=1, keepdims=True)) @ codes.T
    out = apply(QUANTIZER, variables, Z)
    np.testing.assert_array_equal(np.ravel(out.indices), cosine.argmax(1))
    back = codes @ projection.T
    back *= np.sqrt(WIDTH) / np.linalg.norm(back, axis=1, keepdims=True)
    np.testing.assert_allclose(out.quantized, back[np.asarray(out.indices)], atol=1e-5)
    assert float(out.loss) == 0.0
    # Neither the scale nor the mean of a latent counts.
    np.testing.assert_array_equal(apply(QUANTIZER, variables, 2 * Z + 1).indices, out.indices)


def test_nothing_learns_and_training_changes_nothing(getkey):
    variables, projection, codes = made(getkey)
    assert set(variables) == {"codebook"} and codes.shape == (11, INNER)
    np.testing.assert_allclose(np.linalg.norm(codes, axis=1), 1.0, rtol=1e-6)
    assert projection.shape == (WIDTH, INNER) and 0.1 < projection.std() < 1.0
    _, after = apply(QUANTIZER, variables, Z, train=True, mutable=("codebook",))
    jax.tree.map(np.testing.assert_array_equal, after, variables)


def test_gradients_pass_straight_through_to_the_normalised_latents(getkey):
    variables, *_ = made(getkey)
    weight = np.random.default_rng(1).standard_normal(Z.shape, np.float32)
    gradient = jax.jit(jax.grad(lambda z: jnp.sum(weight * QUANTIZER.apply(variables, z).quantized)))(Z)
    centred = Z - Z.mean(-1, keepdims=True)
    spread = np.sqrt(Z.var(-1, keepdims=True) + 1e-5)
    # Of a normalised vector: what is along it, or along a change of the mean, does nothing.
    along = centred * np.mean(weight * centred, axis=-1, keepdims=True) / spread**2
    expected = (weight - weight.mean(-1, keepdims=True) - along) / spread
    np.testing.assert_allclose(gradient, expected, atol=1e-5)
