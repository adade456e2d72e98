"""Residual finite scalar quantization against a NumPy oracle; the rest is in the contract test."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jitted import apply, init

from vq_jax import nn

LEVELS = (8, 5, 3, 2)
ATOL = 1e-6


def normal(*shape):
    return np.random.default_rng(0).standard_normal(shape, np.float32)


def bounded(z):
    reach = 1 + 1 / (np.array(LEVELS) - 1)
    return reach * np.tanh(z / reach)


def oracle(z, num_stages):
    """The vectors of each stage, channel by channel, float64."""
    residual, stages = bounded(z.astype(np.float64)), []
    for stage in range(num_stages):
        values = np.empty(z.shape)
        for axis, size in enumerate(LEVELS):
            scaled = np.clip(residual[..., axis] * size**stage, -1, 1)
            digit = np.floor((size - 1) * (scaled + 1) / 2 + 0.5)
            values[..., axis] = (2 / (size - 1) * digit - 1) / size**stage
        stages.append(values)
        residual = residual - values
    return stages


def test_each_stage_rounds_what_is_left_over_to_finer_levels():
    quantizer, z = nn.ResidualFSQ(LEVELS, 3), normal(400, 4)
    assert init(quantizer, jax.random.key(0), z) == {}
    out = apply(quantizer, {}, z)
    stages = oracle(z, 3)
    assert quantizer.code_spec((4,)) == nn.CodeSpec((), 240, 3)
    for n in (1, 2, 3):
        found = apply(quantizer, {}, out.indices[..., :n], method="lookup")
        # float32 may round a latent at the border of two levels to the other one
        assert (np.abs(found - sum(stages[:n])) > 1e-5).mean() < 5e-3
        assert np.abs(found - bounded(z)).max() < 1.01 * max(
            1 / (size - 1) / size ** (n - 1) for size in LEVELS
        ) + 1 / (np.array(LEVELS) - 1).min() * (n == 1)
    np.testing.assert_allclose(found, out.quantized, atol=ATOL)
    assert float(out.loss) == 0.0


@pytest.mark.parametrize("gradient", ["stages", "whole"])
def test_the_gradient_is_that_of_the_soft_bound_for_each_stage_or_once(gradient):
    quantizer, z = nn.ResidualFSQ(LEVELS, 2, output_gradient=gradient), normal(50, 4)
    found = jax.jit(jax.grad(lambda z: quantizer.apply({}, z).quantized.sum()))(jnp.asarray(z))
    reach = 1 + 1 / (np.array(LEVELS) - 1)
    soft = 1 - np.tanh(z / reach) ** 2
    if gradient == "whole":
        np.testing.assert_allclose(found, soft, atol=1e-5)
        return
    first, residual = np.abs(bounded(z)) < 1, bounded(z) - oracle(z, 1)[0]
    second = np.abs(residual * np.array(LEVELS)) < 1
    np.testing.assert_allclose(found, soft * (first.astype(float) + second), atol=1e-5)


def test_stages_are_left_out_in_training_alone():
    quantizer, z = nn.ResidualFSQ(LEVELS, 3, min_stages=1), normal(20, 4)
    whole, kept = apply(quantizer, {}, z), set()
    sums = [apply(quantizer, {}, whole.indices[..., :n], method="lookup") for n in (1, 2, 3)]
    for key in range(10):
        out = apply(quantizer, {}, z, train=True, rngs={"quantizer": jax.random.key(key)})
        kept |= {n for n, vectors in enumerate(sums, 1) if np.allclose(out.quantized, vectors, atol=ATOL)}
    assert kept == {1, 2, 3}
    np.testing.assert_allclose(whole.quantized, sums[-1], atol=ATOL)


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"levels": (1, 5), "num_stages": 2}, r"ResidualFSQ.levels must be at least 2, got \(1, 5\)"),
        ({"levels": (), "num_stages": 2}, "levels must have a product below"),
        ({"levels": (5,), "num_stages": 2, "min_stages": 3}, "ResidualFSQ.min_stages must be at most num_st"),
        (
            {"levels": (5,), "num_stages": 2, "output_gradient": "sum"},
            "must be one of stages, whole, got 'su",
        ),
    ],
)
def test_fields_that_do_not_fit_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        nn.ResidualFSQ(**fields)


def test_more_stages_than_there_are_are_refused():
    with pytest.raises(ValueError, match="ResidualFSQ has 2 stages and expected codes"):
        nn.ResidualFSQ((5,), 2).apply({}, jnp.zeros((2, 3), jnp.int32), method="lookup")
