"""The step of a restorer: what learns, what does not, and four devices against one."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jitted import copied
from restorer_runs import STEPS, restorer_config
from test_sharding import mesh_of

from vq_jax import train
from vq_jax.configs import (
    OptimizerConfig,
    PatchVQVAE,
    RestorationLosses,
    RestorerNetwork,
    VectorQuantizerEMAConfig,
)
from vq_jax.train.jit import jit_restorer_step
from vq_jax.train.sharding import replicate
from vq_jax.train.steps.restorer import init_restorer, restorer_step
from vq_jax.train.tasks.base import open_task

SHAPE = (16, 16, 3)
LOSSES = RestorationLosses()
NETWORK = RestorerNetwork(
    channels=16, residual_channels=8, num_res_blocks=1, fusion_channels=8, fusion_blocks=1
)


@functools.cache
def networks():
    """A restorer that doubles the size of pictures, with its optimizer; and its tokenizer's variables."""
    quantizer = VectorQuantizerEMAConfig(codebook_size=16, code_dim=6)
    architecture = PatchVQVAE(channels=8, residual_channels=4, num_res_blocks=1, quantizer=quantizer)
    tokenizer = architecture.build()
    variables = jax.jit(tokenizer.init)(jax.random.key(1), jnp.zeros((1, *SHAPE), jnp.float32))
    model = NETWORK.build(tokenizer, architecture.build(), tokenizer.code_specs(SHAPE), 2, jnp.float32)
    optimizer = train.make_optimizer(OptimizerConfig(learning_rate=2e-3), 1000)
    return {"model": model, "optimizer": optimizer}, variables


def batch():
    rng = np.random.default_rng(0)
    small = rng.integers(0, 256, (8, 4, 4, 3)).astype(np.uint8)
    return {"image": small.repeat(2, 1).repeat(2, 2), "target": small.repeat(4, 1).repeat(4, 2)}


@functools.cache
def first_state():
    parts, _ = networks()
    return jax.jit(lambda rng: init_restorer(rng, SHAPE, ema=True, **parts))(jax.random.key(0))


@functools.cache
def run(devices, steps=8):
    parts, variables = networks()
    mesh = mesh_of(devices)
    step = jit_restorer_step(mesh, losses=LOSSES, ema_decay=0.9, **parts)
    state, frozen = replicate(copied(first_state()), mesh), replicate(variables, mesh)
    given, history = train.shard_local_batch(batch(), mesh), []
    for _ in range(steps):
        state, metrics = step(state, given, jax.random.key(1), frozen, None)
        history.append(jax.device_get(metrics))
    return jax.device_get(state), history


@pytest.mark.ci
def test_four_devices_learn_as_one_does():
    (one, expected), (four, actual) = run(1), run(4)
    for a, b in zip(expected, actual, strict=True):
        assert a.keys() == b.keys()
        for name in a:  # sums over the batch in another order
            np.testing.assert_allclose(a[name], b[name], rtol=2e-5, atol=1e-5, err_msg=name)
    for a, b in zip(*(jax.tree.leaves(state.generator.params) for state in (one, four)), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-4)  # Adam enlarges what is near zero


def test_every_group_learns_and_the_tokenizer_is_no_part_of_the_state():
    state, history = run(1)
    before = jax.device_get(first_state()).generator.params
    assert "tokenizer" not in state.generator.params and state.generator.codebook == {}
    for name in before:
        pairs = zip(
            *(jax.tree.leaves(params[name]) for params in (before, state.generator.params)), strict=True
        )
        assert any(not np.array_equal(a, b) for a, b in pairs), name
    assert history[-1]["loss"] < history[0]["loss"]
    assert history[-1]["codes/cross_entropy"] < history[0]["codes/cross_entropy"]


@pytest.mark.ci
def test_parts_of_a_batch_have_the_gradients_of_the_whole():
    parts, variables = networks()
    take = functools.partial(
        restorer_step, tokenizer_variables=variables, losses=LOSSES, ema_decay=0.9, **parts
    )
    whole, split = (
        jax.jit(functools.partial(take, accumulate=count))(first_state(), batch(), jax.random.key(1))[1]
        for count in (1, 2)
    )
    for name in ("loss", "grad_norm"):
        np.testing.assert_allclose(whole[name], split[name], rtol=1e-5)  # sums in another order


def test_a_batch_without_its_clean_pictures_is_refused():
    parts, variables = networks()
    with pytest.raises(ValueError, match="got no target"):
        restorer_step(
            first_state(),
            {"image": batch()["image"]},
            jax.random.key(0),
            tokenizer_variables=variables,
            losses=LOSSES,
            **parts,
        )


def test_a_loss_that_starts_after_the_run_is_warned_of(tmp_path, caplog):
    losses = dataclasses.replace(LOSSES, adversarial_weight=0.1, disc_start=STEPS)
    open_task(restorer_config(losses=losses), tmp_path / "run")
    assert f"losses.disc_start = {STEPS} is not below training.steps = {STEPS}" in caplog.text
