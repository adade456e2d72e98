"""Masked sampling: counts, known codes, orders, guidance, sharding."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from jitted import drawn

from vq_jax import ops
from vq_jax.generate import (
    MaskedOptions,
    SamplingOptions,
    masked,
    sample_masked,
    sample_maskgit,
    trace_options,
)
from vq_jax.nn import Condition, MaskGIT

ORDERS = ("confidence", "halton")


@functools.cache
def make(grid=(4, 4), num_classes=3, **fields):
    model = MaskGIT(16, grid, width=32, num_layers=2, num_heads=2, num_classes=num_classes, **fields)
    condition = None if num_classes is None else conditions([0])
    return model, drawn(model, np.zeros((1, *grid), np.int32), condition, std=0.12)


def conditions(labels):
    return Condition(labels=jnp.asarray(np.array(labels, np.int32)))


def noise(codes, mask):
    """Logits that change with the codes seen."""
    key = jax.random.fold_in(jax.random.key(1), jnp.sum(jnp.where(mask, 0, codes)))
    return 2.0 * jax.random.normal(key, (*codes.shape, 9))


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("schedule,steps", [("cosine", 12), ("arccos", 5), ("linear", 1), ("square", 20)])
def test_every_step_leaves_as_many_as_the_formula_says_and_never_changes_a_code(order, schedule, steps):
    options = MaskedOptions(steps=steps, mask_schedule=schedule, order=order)
    sample = functools.partial(sample_masked, noise, options=options, trace=True)
    codes, shown = jax.jit(lambda rng: sample(rng, (3, 4, 5)))(jax.random.key(0))
    assert codes.shape == (3, 4, 5) and shown.shape == (steps, 3, 4, 5)
    shown = np.asarray(shown).reshape(steps, 3, 20)
    for step in range(steps):
        left = (shown[step] < 0).sum(1)
        np.testing.assert_array_equal(left, ops.masked_count(schedule, 20, step + 1, steps))
        if step:
            decided = shown[step - 1] >= 0
            np.testing.assert_array_equal(shown[step][decided], shown[step - 1][decided])
    np.testing.assert_array_equal(shown[-1].reshape(3, 4, 5), codes)
    assert (codes >= 0).all() and (codes < 9).all()


@pytest.mark.parametrize("order", ORDERS)
def test_known_codes_never_change_and_the_others_keep_the_schedule(order):
    rng = np.random.default_rng(0)
    given = rng.integers(0, 9, (4, 4, 5)).astype(np.int32)
    known = rng.random(given.shape) < np.array([0.0, 0.3, 0.9, 1.1]).reshape(4, 1, 1)
    known[2, 0, 0] = False
    options = MaskedOptions(steps=6, order=order)
    sample = jax.jit(functools.partial(sample_masked, noise, shape=(4, 4, 5), options=options, trace=True))
    codes, shown = sample(rng=jax.random.key(0), codes=jnp.asarray(given), known=jnp.asarray(known))
    np.testing.assert_array_equal(np.asarray(codes)[known], given[known])
    for step, after in enumerate(np.asarray(shown), start=1):
        np.testing.assert_array_equal(after[known], given[known])
        for grid, mask in zip(after, known, strict=True):
            assert (grid < 0).sum() == ops.masked_count("cosine", int((~mask).sum()), step, 6)


def test_the_function_sees_decided_codes_and_the_mask_of_the_rest():
    """Logits that point at what the function was given: each code is one more than those decided before."""

    def count(codes, mask):
        decided = jnp.sum(~mask, axis=(1, 2))
        return jax.nn.one_hot(jnp.broadcast_to(decided[:, None, None], codes.shape), 17) * 50.0

    options = MaskedOptions(temperature=0.0, steps=4, mask_schedule="linear", order="halton")
    codes = jax.jit(lambda rng: sample_masked(count, rng, (2, 4, 4), options=options))(jax.random.key(0))
    order = ops.halton_order((4, 4))
    for grid in np.asarray(codes).reshape(2, 16):
        np.testing.assert_array_equal(grid[order], np.repeat([0, 4, 8, 12], 4))


def test_confidence_without_noise_decides_the_likeliest_first():
    logits = np.zeros((1, 8, 4), np.float32)
    logits[:, :, 1] = [5.0, 1.0, 7.0, 3.0, 2.0, 8.0, 4.0, 6.0]
    options = MaskedOptions(temperature=0.0, steps=4, mask_schedule="linear", noise=0.0)
    sample = functools.partial(sample_masked, lambda codes, mask: jnp.asarray(logits), shape=(1, 8))
    _, shown = jax.jit(lambda rng: sample(rng=rng, options=options, trace=True))(jax.random.key(0))
    decided = [set(np.flatnonzero(row[0] >= 0)) for row in np.asarray(shown)]
    assert decided[:3] == [{5, 2}, {5, 2, 7, 0}, {5, 2, 7, 0, 6, 3}]


def test_noise_shuffles_the_order_and_equal_scores_do_not_break_the_counts():
    def flat(codes, mask):
        return jnp.zeros((*codes.shape, 4))

    @jax.jit
    def sample(rng, options):
        return sample_masked(flat, rng, (1, 8), options=options, trace=True)[1]

    def first(noise, seed):
        options = trace_options(MaskedOptions(steps=4, mask_schedule="linear", noise=noise))
        shown = np.asarray(sample(jax.random.key(seed), options))
        assert [(row < 0).sum() for row in shown] == [6, 4, 2, 0]
        return tuple(np.flatnonzero(shown[0, 0] >= 0))

    assert len({first(0.0, seed) for seed in range(5)}) == 1
    assert len({first(4.5, seed) for seed in range(5)}) > 1


def test_a_masked_prior_is_sampled_by_key_and_label():
    model, variables = make()
    sample = functools.partial(sample_maskgit, model, variables, options=MaskedOptions(steps=4))
    one, again, other = (
        np.asarray(sample(jax.random.key(seed), conditions([0, 1, 2, 0]))) for seed in (0, 0, 1)
    )
    assert one.shape == (4, 4, 4) and one.dtype == np.int32
    np.testing.assert_array_equal(one, again)
    assert (one != other).any() and (one[0] != one[3]).any()
    label = np.asarray(sample(jax.random.key(0), conditions([1, 1, 2, 0])))
    assert (label[0] != one[0]).any()
    np.testing.assert_array_equal(label[1:], one[1:])


@pytest.mark.parametrize("order", ORDERS)
def test_guidance_of_one_is_no_guidance(order):
    model, variables = make()
    rng, condition = jax.random.key(3), conditions([0, 1, 2, 0])
    make_options = functools.partial(MaskedOptions, steps=4, order=order)
    sample = functools.partial(sample_maskgit, model, variables, rng, options=make_options())
    plain = sample(condition)
    for schedule in ("constant", "linear", "power_cosine"):
        options = make_options(guidance=1.0, guidance_schedule=schedule)
        np.testing.assert_array_equal(sample(condition, options=options), plain)
    guided = sample(condition, options=make_options(guidance=5.0))
    assert (guided != plain).any()
    null = conditions([model.null_label] * 4)
    np.testing.assert_array_equal(sample(null), sample(null, options=make_options(guidance=5.0)))


def test_one_step_with_guidance_is_the_formula():
    model, variables = make()
    condition, null = conditions([0, 1, 2]), conditions([model.null_label] * 3)
    options = MaskedOptions(temperature=0.0, guidance=2.5, steps=1)
    codes = sample_maskgit(model, variables, jax.random.key(0), condition, options=options)
    hidden, mask = jnp.zeros((3, 4, 4), jnp.int32), jnp.ones((3, 4, 4), bool)
    logits = jax.jit(lambda condition: model.apply(variables, hidden, condition, mask=mask))
    with_label, without = np.asarray(logits(condition)), np.asarray(logits(null))
    expected = np.argmax(without + 2.5 * (with_label - without), -1)
    np.testing.assert_array_equal(codes, expected)


def test_known_codes_of_a_prior_are_kept_and_seen():
    model, variables = make(num_classes=None)
    given = np.full((2, 4, 4), 5, np.int32)
    given[1] = 9
    known = np.zeros((2, 4, 4), bool)
    known[:, :, :2] = True
    options = MaskedOptions(temperature=0.0)
    sample = functools.partial(sample_maskgit, model, variables, jax.random.key(0), options=options)
    out = np.asarray(sample(codes=jnp.asarray(given), known=jnp.asarray(known)))
    np.testing.assert_array_equal(out[known], given[known])
    assert (out[0, :, 2:] != out[1, :, 2:]).any()
    everything = jnp.asarray(np.ones_like(known))
    np.testing.assert_array_equal(sample(codes=jnp.asarray(given), known=everything), given)


@pytest.mark.parametrize("guidance", [1.0, 2.0])
def test_sharded_sampling_gives_the_codes_of_one_device(guidance):
    model, variables = make()
    condition, rng = conditions(np.arange(8) % 3), jax.random.key(2)
    fields = {"options": MaskedOptions(guidance=guidance, steps=4)}
    alone = sample_maskgit(model, variables, rng, condition, **fields)
    mesh = jax.make_mesh((4,), ("data",), axis_types=(AxisType.Auto,))
    sharding = NamedSharding(mesh, PartitionSpec("data"))
    spread = jax.device_put(condition, sharding)
    everywhere = jax.device_put(variables, NamedSharding(mesh, PartitionSpec()))
    out = sample_maskgit(model, everywhere, rng, spread, sharding=sharding, **fields)
    np.testing.assert_array_equal(out, alone)
    assert out.sharding.is_equivalent_to(sharding, out.ndim)


def test_other_numbers_do_not_compile_again():
    model, variables = make(grid=(2, 2))
    before = masked._sample_maskgit.__wrapped__._cache_size()
    for temperature, noise in [(0.7, 4.5), (1.2, 1.0), (0.9, 0.0)]:
        options = MaskedOptions(temperature, guidance=3.0 * temperature, steps=3, noise=noise)
        sample_maskgit(model, variables, jax.random.key(0), conditions([1]), options=options)
    assert masked._sample_maskgit.__wrapped__._cache_size() == before + 1


def test_mistakes_are_refused():
    with pytest.raises(TypeError, match="expected MaskedOptions for this sampler, got SamplingOptions"):
        sample_masked(noise, jax.random.key(0), (1, 4, 4), options=SamplingOptions())
    with pytest.raises(ValueError, match="at most 16 steps for a grid of 16 positions, got 17"):
        sample_masked(noise, jax.random.key(0), (1, 4, 4), options=MaskedOptions(steps=17))
    with pytest.raises(ValueError, match="give codes and known together"):
        sample_masked(noise, jax.random.key(0), (1, 4, 4), codes=jnp.zeros((1, 4, 4), jnp.int32))
    model, variables = make()
    for condition, options, message in [
        (None, {"num": 2}, "give condition.labels"),
        (conditions([0, 7]), {}, "labels from 0 to 2, got 7"),
        (conditions([0]), {"num": 2}, "got 1 and 2"),
    ]:
        with pytest.raises(ValueError, match=message):
            sample_maskgit(model, variables, jax.random.key(0), condition, **options)
    model, variables = make(class_dropout=0.0)
    with pytest.raises(ValueError, match="trained without class dropout"):
        options = MaskedOptions(guidance=2.0)
        sample_maskgit(model, variables, jax.random.key(0), conditions([0]), options=options)
