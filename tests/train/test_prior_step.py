"""The step of a prior: pure, the same in parts and over devices, and it learns."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jitted import apply, copied

from vq_jax import nn, train
from vq_jax.train.steps.prior import prior_evaluation

MODELS = {
    "gpt": nn.GPT(8, (3, 3), 16, 1, 2, num_classes=2, class_dropout=0.0, dropout=0.0, token_dropout=0.0),
    "maskgit": nn.MaskGIT(
        8, (3, 3), 16, 1, 2, num_classes=2, class_dropout=0.0, dropout=0.0, token_dropout=0.0
    ),
}


def batch(size=8):
    codes = np.random.default_rng(0).integers(0, 8, (size, 3, 3), np.int32)
    return jnp.asarray(codes), nn.Condition(jnp.asarray(np.arange(size, dtype=np.int32) % 2))


def first_state(key, **fields):
    return jax.jit(functools.partial(train.init_prior, **fields))(key)


@pytest.mark.parametrize("kind", MODELS)
def test_a_prior_memorises_eight_grids(kind, getkey):
    model, optimizer = MODELS[kind], optax.adam(1e-2)
    state = first_state(getkey(), prior_model=model, optimizer=optimizer, ema=True)
    step = jax.jit(functools.partial(train.prior_step, prior_model=model, optimizer=optimizer, ema_decay=0.5))
    codes, condition = batch()
    first = None
    for number in range(150):
        state, metrics = step(state, codes, condition, jax.random.key(number))
        first = metrics["cross_entropy"] if first is None else first
    assert int(state.step) == 150 and first > 1.8
    # a fully masked grid cannot be told from the others of its class, so the loss falls but has no floor here
    assert metrics["cross_entropy"] < (0.3 if kind == "gpt" else 0.7 * first)
    assert not np.array_equal(state.ema_params["head"], state.params["head"])


def test_the_step_is_the_same_in_parts_and_over_devices(getkey):
    model, optimizer = MODELS["gpt"], optax.sgd(0.1)
    state = first_state(getkey(), prior_model=model, optimizer=optimizer)
    codes, condition = batch()
    rng = jax.random.key(0)
    step = functools.partial(train.prior_step, prior_model=model, optimizer=optimizer)
    whole, metrics = jax.jit(step)(state, codes, condition, rng)
    parts, _ = jax.jit(functools.partial(step, accumulate=4))(state, codes, condition, rng)
    mesh = train.make_mesh()
    spread_step = train.jit_prior_step(mesh, prior_model=model, optimizer=optimizer)
    given = train.shard_local_batch({"codes": np.asarray(codes), "label": np.asarray(condition.labels)}, mesh)
    spread, spread_metrics = spread_step(copied(state), given, rng)
    for other in (parts, spread):
        for a, b in zip(jax.tree.leaves(whole.params), jax.tree.leaves(other.params), strict=True):
            np.testing.assert_allclose(a, b, atol=1e-5)
    np.testing.assert_allclose(metrics["loss"], spread_metrics["loss"], rtol=1e-5)


def test_the_evaluation_is_a_sum_over_valid_grids_whatever_the_batch(getkey):
    model = MODELS["gpt"]
    params = first_state(getkey(), prior_model=model, optimizer=optax.sgd(0.1)).params
    codes, condition = batch()
    rng = jax.random.key(0)

    @jax.jit
    def evaluate(codes, condition, valid):
        return prior_evaluation(params, codes, condition, valid, rng=rng, prior_model=model)

    sums = evaluate(codes, condition, np.ones(8, bool))
    mean = apply(model, {"params": params}, codes, condition, train=False, method="loss")[0]
    np.testing.assert_allclose(sums["loss"] / 8, mean, rtol=1e-5)
    half = evaluate(codes, condition, np.arange(8) < 5)
    codes, condition = jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf)[:5]), (codes, condition))
    first = evaluate(codes, condition, np.ones(5, bool))
    np.testing.assert_allclose(half["loss"], first["loss"], rtol=1e-5)
