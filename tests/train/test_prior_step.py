"""The step of a prior: pure, the same in parts and over devices, and it learns."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from vq_jax import nn, train
from vq_jax.train.steps.prior import prior_evaluation

MODELS = {
    "gpt": nn.GPT(8, (3, 3), 16, 1, 2, num_classes=2, class_dropout=0.0, dropout=0.0, token_dropout=0.0),
    "maskgit": nn.MaskGIT(
        8, (3, 3), 16, 1, 2, num_classes=2, class_dropout=0.0, dropout=0.0, token_dropout=0.0
    ),
}


def batch(getkey, size=8):
    codes = jax.random.randint(getkey(), (size, 3, 3), 0, 8, jnp.int32)
    return codes, nn.Condition(jnp.arange(size, dtype=jnp.int32) % 2)


@pytest.mark.parametrize("kind", MODELS)
def test_a_prior_memorises_eight_grids(kind, getkey):
    model, optimizer = MODELS[kind], optax.adam(1e-2)
    state = train.init_prior(getkey(), prior_model=model, optimizer=optimizer, ema=True)
    step = jax.jit(functools.partial(train.prior_step, prior_model=model, optimizer=optimizer, ema_decay=0.5))
    codes, condition = batch(getkey)
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
    state = train.init_prior(getkey(), prior_model=model, optimizer=optimizer)
    codes, condition = batch(getkey)
    rng = jax.random.key(0)
    whole, metrics = train.prior_step(state, codes, condition, rng, prior_model=model, optimizer=optimizer)
    parts, _ = train.prior_step(
        state, codes, condition, rng, prior_model=model, optimizer=optimizer, accumulate=4
    )
    mesh = train.make_mesh()
    step = train.jit_prior_step(mesh, prior_model=model, optimizer=optimizer)
    given = train.shard_local_batch({"codes": np.asarray(codes), "label": np.asarray(condition.labels)}, mesh)
    spread, spread_metrics = step(jax.tree.map(jnp.copy, state), given, rng)
    for other in (parts, spread):
        for a, b in zip(jax.tree.leaves(whole.params), jax.tree.leaves(other.params), strict=True):
            np.testing.assert_allclose(a, b, atol=1e-5)
    np.testing.assert_allclose(metrics["loss"], spread_metrics["loss"], rtol=1e-5)


def test_the_evaluation_is_a_sum_over_valid_grids_whatever_the_batch(getkey):
    model = MODELS["gpt"]
    params = train.init_prior(getkey(), prior_model=model, optimizer=optax.sgd(0.1)).params
    codes, condition = batch(getkey)
    evaluate = functools.partial(prior_evaluation, params, rng=jax.random.key(0), prior_model=model)
    sums = evaluate(codes, condition, jnp.ones(8, bool))
    mean = model.apply({"params": params}, codes, condition, train=False, method="loss")[0]
    np.testing.assert_allclose(sums["loss"] / 8, mean, rtol=1e-5)
    half = evaluate(codes, condition, jnp.arange(8) < 5)
    first = evaluate(codes[:5], nn.Condition(condition.labels[:5]), jnp.ones(5, bool))
    np.testing.assert_allclose(half["loss"], first["loss"], rtol=1e-5)
