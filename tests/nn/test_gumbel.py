"""Gumbel-softmax against NumPy with the module's own noise; what every quantizer does is elsewhere."""

import logging

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, Mesh, PartitionSpec
from jitted import apply, drawn

from vq_jax import nn
from vq_jax.nn.quantizers import base

SIZE, WIDTH = 7, 4
KEY = {"quantizer": jax.random.key(3)}
Z = np.random.default_rng(0).standard_normal((2, 5, WIDTH), np.float32)


def made(**fields):
    quantizer = nn.GumbelQuantizer(SIZE, WIDTH, **{"anneal_steps": 8, **fields})
    return quantizer, {**drawn(quantizer, Z, std=1.0), "codebook": {"step": jnp.int32(2)}}


def noise_of(quantizer, variables):
    """What the module draws in training."""
    return quantizer.apply(
        variables,
        method=lambda module: jax.random.gumbel(module.make_rng("quantizer"), (Z[..., 0].size, SIZE)),
        rngs=KEY,
    )


def softmax(logits):
    p = np.exp(logits - logits.max(-1, keepdims=True))
    return p / p.sum(-1, keepdims=True)


def oracle(variables, noise, temperature):
    """Logits, noisy weights, and the codebook, float64."""
    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), variables["params"])
    logits = Z.reshape(-1, WIDTH) @ params["logits"]["kernel"] + params["logits"]["bias"]
    return logits, softmax((logits + noise) / temperature), params["embedding"]


# Half a cosine from 1 to 1/16 over 8 steps, after 2 steps.
TEMPERATURE = 1 / 16 + (1 - 1 / 16) * 0.5 * (1 + np.cos(np.pi / 4))


@pytest.mark.parametrize("hard", [True, False])
def test_training_draws_codes_with_the_gradient_of_the_weighted_sum(hard):
    quantizer, variables = made(hard=hard, kl_weight=0.0)
    weight = np.random.default_rng(1).standard_normal(Z.shape, np.float32)
    logits, weights, table = oracle(variables, np.asarray(noise_of(quantizer, variables)), TEMPERATURE)

    def objective(z, embedding):
        params = {**variables["params"], "embedding": embedding}
        out, _ = quantizer.apply(
            {**variables, "params": params}, z, train=True, mutable=["codebook"], rngs=KEY
        )
        return jnp.sum(weight * out.quantized), out

    arguments = (Z, variables["params"]["embedding"])
    (z_grad, table_grad), out = jax.jit(jax.grad(objective, (0, 1), has_aux=True))(*arguments)
    chosen = weights.argmax(1)
    np.testing.assert_array_equal(np.ravel(out.indices), chosen)
    assert (chosen != logits.argmax(1)).any()  # it is drawn
    used = np.eye(SIZE)[chosen] if hard else weights
    np.testing.assert_allclose(np.reshape(out.quantized, (-1, WIDTH)), used @ table, atol=1e-5)
    flat = weight.reshape(-1, WIDTH)
    np.testing.assert_allclose(table_grad, used.T @ flat, atol=1e-5)
    pull = flat @ table.T
    through = weights * (pull - np.sum(weights * pull, 1, keepdims=True)) / TEMPERATURE
    kernel = np.asarray(variables["params"]["logits"]["kernel"])
    np.testing.assert_allclose(np.reshape(z_grad, (-1, WIDTH)), through @ kernel.T, atol=1e-4)
    assert float(out.metrics["temperature"]) == pytest.approx(TEMPERATURE, rel=1e-6)


def test_evaluation_takes_the_largest_logit_without_noise_or_key_whatever_hard_says():
    for hard in (True, False):
        quantizer, variables = made(hard=hard)
        logits, _, table = oracle(variables, 0.0, 1.0)
        out = apply(quantizer, variables, Z)
        np.testing.assert_array_equal(np.ravel(out.indices), logits.argmax(1))
        np.testing.assert_array_equal(
            out.quantized, apply(quantizer, variables, out.indices, method="lookup")
        )
        np.testing.assert_allclose(np.reshape(out.quantized, (-1, WIDTH)), table[logits.argmax(1)], atol=1e-6)


def test_the_loss_is_the_mean_divergence_from_even_use_without_noise_and_temperature():
    quantizer, variables = made(kl_weight=0.3)
    p = softmax(oracle(variables, 0.0, 1.0)[0])
    expected = np.mean(np.sum(p * np.log(SIZE * p), axis=1))
    out = apply(quantizer, variables, Z)
    assert float(out.metrics["kl"]) == pytest.approx(expected, rel=1e-5)
    assert float(out.loss) == pytest.approx(0.3 * expected, rel=1e-5)
    even = jax.tree.map(jnp.zeros_like, variables)
    assert float(apply(quantizer, even, Z).loss) == pytest.approx(0.0, abs=1e-6)


def test_the_temperature_falls_with_the_steps_trained_and_stays_at_its_end():
    quantizer, variables = made(initial_temperature=2.0, final_temperature=0.5, anneal_steps=3)
    variables["codebook"] = {"step": jnp.int32(0)}
    seen = []
    for _ in range(5):
        out, updates = apply(quantizer, variables, Z, train=True, mutable=("codebook",), rngs=KEY)
        seen.append(float(out.metrics["temperature"]))
        variables = {**variables, **updates}
    np.testing.assert_allclose(seen, [2.0, 1.625, 0.875, 0.5, 0.5], rtol=1e-6)
    assert int(variables["codebook"]["step"]) == 5
    # No latents, no step; nor in evaluation.
    _, empty = apply(quantizer, variables, Z[:0], train=True, mutable=("codebook",), rngs=KEY)
    _, still = apply(quantizer, variables, Z, mutable=("codebook",))
    assert int(empty["codebook"]["step"]) == int(still["codebook"]["step"]) == 5


def test_a_missing_key_and_a_temperature_that_stays_are_said(caplog):
    quantizer, variables = made()
    base._say_unchanged.cache_clear()
    with pytest.raises(
        ValueError, match=r'draws codes in training .* give rngs=\{"quantizer": key\} to apply'
    ):
        jax.eval_shape(lambda: quantizer.apply(variables, jnp.asarray(Z), train=True, mutable=["codebook"]))
    with caplog.at_level(logging.WARNING, "vq_jax"):
        jax.eval_shape(lambda: quantizer.apply(variables, jnp.asarray(Z), train=True, rngs=KEY).loss)
    assert "its temperature does not change: give mutable" in caplog.text


def test_under_shard_map_each_device_draws_noise_of_its_own_and_usage_is_global():
    quantizer, variables = made(axis_name="data")
    mesh = Mesh(np.array(jax.devices()), ("data",), axis_types=(AxisType.Auto,))
    same = np.zeros((4, 3, WIDTH), np.float32)

    def train(variables, z):
        out, updates = quantizer.apply(variables, z, train=True, mutable=["codebook"], rngs=KEY)
        return out.indices, out.metrics["perplexity"], updates

    rows, everywhere = PartitionSpec("data"), PartitionSpec()
    mapped = jax.shard_map(
        train, mesh=mesh, in_specs=(everywhere, rows), out_specs=(rows, everywhere, everywhere)
    )
    indices, perplexity, updates = jax.jit(mapped)(variables, same)
    assert len(np.unique(indices, axis=0)) > 1
    frequency = np.bincount(np.ravel(indices), minlength=SIZE) / 12
    expected = np.exp(-np.sum(frequency * np.log(frequency + 1e-10)))
    assert float(perplexity) == pytest.approx(expected, rel=1e-5) and int(updates["codebook"]["step"]) == 3
