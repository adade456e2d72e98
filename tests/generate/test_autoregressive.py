"""Autoregressive sampling: of any function, of a GPT, with known codes, guidance and sharding."""

import functools
import math
import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from jitted import apply, drawn

from vq_jax.generate import (
    SamplingOptions,
    autoregressive,
    sample_autoregressive,
    sample_gpt,
    trace_options,
    uncached_step,
)
from vq_jax.generate import options as options_module
from vq_jax.nn import GPT, Condition

GREEDY = SamplingOptions(temperature=0.0)


@functools.cache
def make(grid=(3, 4), depth=1, num_classes=3, num_layers=1, **fields):
    model = GPT(
        16,
        grid,
        width=16 * len(grid),
        num_layers=num_layers,
        num_heads=2,
        num_classes=num_classes,
        codes_per_position=depth,
        **fields,
    )
    codes = np.zeros((1, *model.code_shape), np.int32)
    return model, drawn(model, codes, None if num_classes is None else conditions([0]), std=0.3)


def conditions(labels):
    return Condition(labels=jnp.asarray(np.array(labels, np.int32)))


def one_by_one(model, variables, condition, guidance=1.0, codes=None, known=None):
    """Greedy sampling written out: a whole pass a code."""
    batch = condition.labels.shape[0]
    null = conditions([model.num_classes] * batch)
    out = np.zeros((batch, *model.code_shape), np.int32)
    for index in np.ndindex(model.code_shape):
        at = (slice(None), *index)
        logits = np.asarray(apply(model, variables, out, condition))[at]
        if guidance != 1.0:
            without = np.asarray(apply(model, variables, out, null))[at]
            logits = without + guidance * (logits - without)
        out[at] = logits.argmax(-1)
        if codes is not None:
            out[at] = np.where(known[at], codes[at], out[at])
    return out


@pytest.mark.parametrize(
    "grid,depth,guidance",
    [((5,), 1, 1.0), ((3, 4), 1, 1.0), ((3, 4), 1, 2.5), ((2, 2, 3), 1, 1.0), ((2, 3), 3, 2.5)],
)
def test_greedy_codes_are_those_of_whole_passes(grid, depth, guidance):
    model, variables = make(grid, depth, num_layers=2)
    condition = conditions([0, 1, 2])
    options = SamplingOptions(temperature=0.0, guidance=guidance)
    codes = sample_gpt(model, variables, jax.random.key(0), condition, options=options)
    assert codes.dtype == jnp.int32
    np.testing.assert_array_equal(codes, one_by_one(model, variables, condition, guidance))
    assert len(np.unique(codes)) > 3


def test_guidance_of_one_is_no_guidance_and_of_the_null_label_changes_nothing():
    model, variables = make()
    rng, condition = jax.random.key(3), conditions([0, 1, 2, 0])
    plain = sample_gpt(model, variables, rng, condition)
    for schedule in ("constant", "linear", "power_cosine"):
        options = SamplingOptions(guidance=1.0, guidance_schedule=schedule, guidance_power=2.0)
        np.testing.assert_array_equal(sample_gpt(model, variables, rng, condition, options=options), plain)
    guided = sample_gpt(model, variables, rng, condition, options=SamplingOptions(guidance=4.0))
    assert (guided != plain).any()
    null = conditions([model.null_label] * 4)
    alone = sample_gpt(model, variables, rng, null)
    guided = sample_gpt(model, variables, rng, null, options=SamplingOptions(guidance=4.0))
    np.testing.assert_array_equal(alone, guided)


def test_guidance_schedules_reach_their_scale_over_the_positions(monkeypatch):
    """A function whose two halves differ by a constant shows the scale in the logits themselves."""
    seen = []

    def step(state, previous, position):
        logits = jnp.concatenate([jnp.ones((2, 4)), jnp.zeros((2, 4))])
        return logits, state

    draw = options_module.TracedOptions.draw

    def spy(self, rng, logits):
        jax.debug.callback(lambda x: seen.append(float(x)), logits[0, 0], ordered=True)
        return draw(self, rng, logits)

    monkeypatch.setattr(options_module.TracedOptions, "draw", spy)
    options = SamplingOptions(guidance=3.0, guidance_schedule="linear")
    sample_autoregressive(step, (), jax.random.key(0), (2, 5), options=options).block_until_ready()
    jax.effects_barrier()
    np.testing.assert_allclose(seen, [1.0, 1.5, 2.0, 2.5, 3.0], rtol=1e-6)


@pytest.mark.parametrize("depth", [1, 2])
def test_known_codes_are_kept_and_later_ones_depend_on_them(depth):
    model, variables = make((3, 4), depth)
    condition = conditions([0, 1, 2, 1])
    rng = np.random.default_rng(0)
    given = rng.integers(0, 16, (4, *model.code_shape)).astype(np.int32)
    known = rng.random(given.shape) < 0.4
    out = sample_gpt(
        model,
        variables,
        jax.random.key(0),
        condition,
        options=GREEDY,
        codes=jnp.asarray(given),
        known=jnp.asarray(known),
    )
    np.testing.assert_array_equal(np.asarray(out)[known], given[known])
    np.testing.assert_array_equal(out, one_by_one(model, variables, condition, 1.0, given, known))


def test_the_same_key_gives_the_same_codes_and_another_others():
    model, variables = make(num_classes=None)
    one, again, other = (sample_gpt(model, variables, jax.random.key(seed), num=8) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, again)
    assert (one != other).any()
    assert len({grid.tobytes() for grid in np.asarray(one)}) == 8  # grids of a batch differ


def test_any_function_can_be_sampled_and_draws_follow_its_probabilities():
    """A Markov chain, where the code before decides the next one's probabilities."""
    chain = jnp.array([[0.1, 0.9, 0.0], [0.0, 0.2, 0.8], [0.5, 0.0, 0.5]])

    def step(state, previous, position):
        start = jnp.log(jnp.full((4096, 3), 1 / 3))
        return jnp.where(position == 0, start, jnp.log(chain)[previous]), state + 1

    sample = jax.jit(lambda rng: sample_autoregressive(step, jnp.zeros(()), rng, (4096, 2, 4)))
    codes = np.asarray(sample(jax.random.key(0))).reshape(4096, 8)
    counts = np.zeros((3, 3))
    np.add.at(counts, (codes[:, :-1].ravel(), codes[:, 1:].ravel()), 1)
    np.testing.assert_allclose(counts / counts.sum(1, keepdims=True), chain, atol=0.02)
    np.testing.assert_allclose(np.bincount(codes[:, 0]) / 4096, 1 / 3, atol=0.03)


def test_whole_passes_as_a_step_give_the_codes_of_the_cache():
    model, variables = make()
    condition = conditions([0, 1])
    step, state = uncached_step(lambda codes: model.apply(variables, codes, condition), model.grid, rows=2)
    rng = jax.random.key(5)
    slow = jax.jit(lambda: sample_autoregressive(step, state, rng, (2, 3, 4)))()
    np.testing.assert_array_equal(slow, sample_gpt(model, variables, rng, condition))


@pytest.mark.parametrize("classes,guidance", [(3, 1.0), (3, 2.0), (None, 1.0)])
def test_sharded_sampling_gives_the_codes_of_one_device(classes, guidance):
    model, variables = make(num_classes=classes)
    condition = None if classes is None else conditions(np.arange(8) % 3)
    rng, fields = jax.random.key(2), {"num": 8, "options": SamplingOptions(guidance=guidance, top_k=8)}
    alone = sample_gpt(model, variables, rng, condition, **fields)
    mesh = jax.make_mesh((4,), ("data",), axis_types=(AxisType.Auto,))
    sharding = NamedSharding(mesh, PartitionSpec("data"))
    spread = jax.device_put(condition, sharding)
    everywhere = jax.device_put(variables, NamedSharding(mesh, PartitionSpec()))
    out = sample_gpt(model, everywhere, rng, spread, sharding=sharding, **fields)
    np.testing.assert_array_equal(out, alone)
    assert out.sharding.is_equivalent_to(sharding, out.ndim)


def test_other_numbers_do_not_compile_again():
    model, variables = make(grid=(2, 2))
    before = autoregressive._sample_gpt.__wrapped__._cache_size()
    for temperature, top_p, guidance in [(0.7, 0.9, 2.0), (1.2, 0.5, 3.0), (0.9, 0.99, 0.5)]:
        options = SamplingOptions(temperature, 4, top_p, guidance)
        sample_gpt(model, variables, jax.random.key(0), conditions([1, 2]), options=options)
    assert autoregressive._sample_gpt.__wrapped__._cache_size() == before + 1


@pytest.mark.parametrize("num", [1, 3])
def test_the_loop_updates_its_caches_in_place(num):
    """No buffer of a cache's size is copied in the compiled loop."""
    model, variables = make(grid=(8, 8), num_classes=None, num_layers=2)
    options = trace_options(SamplingOptions())
    arguments = (model, num, None, variables, jax.random.key(0), None, options, None, None)
    text = autoregressive._sample_gpt.__wrapped__.lower(*arguments).compile().as_text()
    size = num * 2 * 64 * 16
    before_main, _ = text.split("ENTRY")
    assert f"f32[{num * 2},64,16]" in before_main
    made = re.findall(r"= f32\[([\d,]+)\]\S* copy\(", before_main)
    assert size not in [math.prod(map(int, shape.split(","))) for shape in made]


@pytest.mark.parametrize(
    "arguments,message",
    [
        ({}, "one batch size from num, condition.labels and codes, got nothing"),
        ({"num": 3, "labels": [0, 1]}, "got 2 and 3"),
        ({"num": 0}, "at least one grid to draw, got num = 0"),
        ({"num": 2}, "conditioned on 3 classes: give condition.labels"),
        ({"labels": [0, 4]}, "labels from 0 to 2, got 4; the prior has 3 classes"),
        ({"labels": [-1, 0]}, "labels from 0 to 2, got -1"),
        ({"labels": [0], "codes": (1, 3, 4)}, "give codes and known together"),
        ({"labels": [0], "known": (1, 3, 4)}, "give codes and known together"),
        ({"labels": [0], "codes": (1, 3, 5), "known": (1, 3, 5)}, r"known of shape \(1, 3, 4\)"),
        ({"labels": [0], "codes": (1, 3, 4), "known": (1, 3, 3)}, r"got \(1, 3, 4\) and \(1, 3, 3\)"),
    ],
)
def test_mistakes_are_refused(arguments, message):
    model, variables = make()
    arguments = dict(arguments)
    condition = conditions(arguments.pop("labels")) if "labels" in arguments else None
    for name, dtype in (("codes", jnp.int32), ("known", jnp.bool_)):
        if name in arguments:
            arguments[name] = jnp.zeros(arguments[name], dtype)
    with pytest.raises(ValueError, match=message):
        sample_gpt(model, variables, jax.random.key(0), condition, **arguments)


def test_guidance_needs_unconditional_logits():
    options = SamplingOptions(guidance=2.0)
    model, variables = make(num_classes=None)
    with pytest.raises(ValueError, match="is unconditional"):
        sample_gpt(model, variables, jax.random.key(0), num=2, options=options)
    model, variables = make(class_dropout=0.0)
    with pytest.raises(ValueError, match="trained without class dropout"):
        sample_gpt(model, variables, jax.random.key(0), conditions([0]), options=options)
    with pytest.raises(ValueError, match="labels from 0 to 2, got 3"):
        sample_gpt(model, variables, jax.random.key(0), conditions([3]))
    with pytest.raises(ValueError, match="integer codes and bool known, got float32 and int32"):
        given = {"codes": jnp.zeros((1, 3, 4)), "known": jnp.zeros((1, 3, 4), jnp.int32)}
        sample_gpt(model, variables, jax.random.key(0), conditions([0]), **given)


def test_one_compilation_serves_all_keys():
    def sample(rng):
        return sample_autoregressive(lambda s, p, i: (jnp.zeros((2, 4)), s), (), rng, (2, 3))

    traced = jax.jit(chex.assert_max_traces(sample, n=1))
    assert (traced(jax.random.key(0)) != traced(jax.random.key(1))).any()
