"""SimVQ against a NumPy oracle; what every quantizer does is in the contract test."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jitted import apply, init

from vq_jax import nn


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def folded(variables):
    """C W + b in float64."""
    params = {name: np.asarray(leaf, np.float64) for name, leaf in variables["params"].items()}
    return np.asarray(variables["codebook"]["frozen"]) @ params["kernel"] + params.get("bias", 0.0)


@pytest.mark.parametrize("fields", [{}, {"frozen_dim": 6, "use_bias": True}, {"normalize": True}])
def test_codes_losses_and_gradients_are_those_of_the_folded_table(fields, getkey):
    quantizer = nn.SimVQ(32, 4, codebook_weight=2.0, commitment_weight=0.5, **fields)
    z = normal(6, 5, 4)
    variables = init(quantizer, getkey(), z)
    if "bias" in variables["params"]:
        variables["params"]["bias"] = jnp.asarray(0.1 * normal(4, seed=1))
    table, flat = folded(variables), z.reshape(-1, 4).astype(np.float64)
    if quantizer.normalize:
        table, flat = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (table, flat))
    np.testing.assert_allclose(apply(quantizer, variables, method="codebook"), table, atol=1e-6)
    nearest = ((flat[:, None] - table[None]) ** 2).sum(-1).argmin(1)
    out = apply(quantizer, variables, z)
    np.testing.assert_array_equal(np.reshape(out.indices, -1), nearest)
    difference = table[nearest] - flat
    assert float(out.loss) == pytest.approx(2.5 * np.mean(difference**2), rel=1e-5)
    if quantizer.normalize:
        return
    loss = lambda params, z: quantizer.apply({**variables, "params": params}, z).loss  # noqa: E731
    params, of_z = jax.jit(jax.grad(loss, (0, 1)))(variables["params"], z)
    pull = 2 * difference / difference.size
    np.testing.assert_allclose(np.reshape(of_z, (-1, 4)), -0.5 * pull, atol=1e-6)
    chosen = np.asarray(variables["codebook"]["frozen"])[nearest]
    np.testing.assert_allclose(params["kernel"], 2.0 * chosen.T @ pull, atol=1e-5)
    if quantizer.use_bias:
        np.testing.assert_allclose(params["bias"], 2.0 * pull.sum(0), atol=1e-5)


def test_fixed_vectors_have_expected_length_one(getkey):
    frozen = init(nn.SimVQ(4096, 8, frozen_dim=16), getkey(), normal(2, 8))["codebook"]["frozen"]
    assert frozen.shape == (4096, 16)
    assert np.square(frozen).sum(1).mean() == pytest.approx(1.0, abs=0.02)


def test_one_update_moves_every_code_and_no_fixed_vector(getkey):
    quantizer = nn.SimVQ(16, 4)
    z = jnp.asarray(normal(2, 1, 4))  # of which two codes at most are the nearest
    variables = init(quantizer, getkey(), z)
    assert set(variables["params"]) == {"kernel"} and set(variables["codebook"]) == {"frozen"}

    def step(params):
        def loss(params):
            given = {**variables, "params": params}
            out, updates = quantizer.apply(given, z, train=True, mutable=["codebook"])
            return out.loss, updates

        gradients, updates = jax.grad(loss, has_aux=True)(params)
        return jax.tree.map(lambda param, gradient: param - 0.1 * gradient, params, gradients), updates

    params, updates = jax.jit(step)(variables["params"])
    np.testing.assert_array_equal(updates["codebook"]["frozen"], variables["codebook"]["frozen"])
    moved = folded({"params": params, **updates}) - folded(variables)
    assert np.abs(moved).max(1).min() > 1e-4


def test_revival_is_refused():
    with pytest.raises(ValueError, match="revive_threshold must be 0, got 0.5: its codes move together"):
        nn.SimVQ(8, 4, revive_threshold=0.5)
