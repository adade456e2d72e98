"""Filters, guidance and draws on logits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vq_jax import ops


def kept(logits):
    return np.isfinite(np.asarray(logits))


def test_top_k_keeps_the_k_largest_and_ties():
    logits = jnp.array([[3.0, 1.0, 2.0, 0.0], [1.0, 1.0, 1.0, 0.0]])
    np.testing.assert_array_equal(kept(ops.filter_top_k(logits, 2)), [[1, 0, 1, 0], [1, 1, 1, 0]])
    for everything in (0, 4, 9):
        np.testing.assert_array_equal(ops.filter_top_k(logits, everything), logits)
    with pytest.raises(ValueError, match="top_k of at least 0 .* got -1"):
        ops.filter_top_k(logits, -1)


def test_top_p_keeps_the_most_likely_codes_that_reach_p():
    logits = jnp.log(jnp.array([[0.1, 0.4, 0.2, 0.3]]))
    traced = jax.jit(ops.filter_top_p)
    for p, expected in [(0.05, [0, 1, 0, 0]), (0.5, [0, 1, 0, 1]), (0.75, [0, 1, 1, 1]), (1.0, [1, 1, 1, 1])]:
        np.testing.assert_array_equal(kept(ops.filter_top_p(logits, p)), [expected])
        if p < 1.0:  # traced
            np.testing.assert_array_equal(kept(traced(logits, p)), [expected])
    assert kept(ops.filter_top_p(jnp.zeros((5,)), 1e-6)).sum() == 1
    for p in (0.0, -0.5, 1.5):
        with pytest.raises(ValueError, match=rf"top_p in \(0, 1\], got {p}"):
            ops.filter_top_p(logits, p)


def test_filters_leave_the_kept_logits_as_they_are():
    logits = np.random.default_rng(0).standard_normal((3, 50), np.float32)
    filtered = jax.jit(ops.filter_logits, static_argnames=("temperature", "top_k", "top_p"))
    out = np.asarray(filtered(logits, temperature=0.5, top_k=20, top_p=0.8))
    assert 1 < kept(out).sum(1).min() and kept(out).sum(1).max() <= 20
    np.testing.assert_array_equal(out[kept(out)], (logits / np.float32(0.5))[kept(out)])
    np.testing.assert_array_equal(filtered(logits), logits)
    assert filtered(logits.astype(jnp.bfloat16), temperature=2.0).dtype == jnp.float32


def test_guidance_of_one_is_the_conditional_to_the_bit_and_others_extrapolate(getkey):
    a, b = (10.0 * jax.random.normal(getkey(), (4, 9)) for _ in range(2))
    np.testing.assert_array_equal(ops.guide(a, b, 1.0), a)
    np.testing.assert_allclose(ops.guide(a, b, 0.0), b, atol=1e-5)
    np.testing.assert_allclose(ops.guide(a, b, 3.0), b + 3.0 * (a - b), rtol=1e-5, atol=1e-4)


def test_guidance_schedules_start_at_one_and_end_at_the_scale():
    r = np.linspace(0.0, 1.0, 9)
    expected = {
        ("constant", 1.0): np.full(9, 4.0),
        ("linear", 1.0): 1 + 3 * r,
        ("power_cosine", 1.0): 1 + 3 * (1 - np.cos(np.pi * r)) / 2,
        ("power_cosine", 2.75): 1 + 3 * (1 - np.cos(np.pi * r**2.75)) / 2,
    }
    for (schedule, power), values in expected.items():
        ours = [ops.guidance_scale(schedule, 4.0, jnp.float32(progress), power) for progress in r]
        np.testing.assert_allclose(ours, values, rtol=1e-5)
        assert {1.0} == {float(ops.guidance_scale(schedule, 1.0, jnp.float32(x), power)) for x in r}
    with pytest.raises(ValueError, match="constant, linear, power_cosine, got 'cubic'"):
        ops.guidance_scale("cubic", 4.0, 0.5)


def test_draws_have_the_probabilities_of_the_softmax(getkey):
    logits = np.array([0.0, 1.0, -1.0, -np.inf], np.float32)
    draws = jax.jit(ops.sample_codes)(getkey(), np.tile(logits, (20000, 1)))
    assert draws.dtype == jnp.int32
    share = np.bincount(draws, minlength=4) / 20000
    np.testing.assert_allclose(
        share, np.exp(logits) / np.exp(logits).sum(), atol=0.012
    )  # over three standard errors
    assert share[3] == 0.0


def test_greedy_takes_the_most_likely_code_and_the_lowest_of_a_tie():
    codes = ops.greedy_codes(jnp.array([[0.0, 2.0, 1.0], [1.0, 1.0, 0.0]]))
    np.testing.assert_array_equal(codes, [1, 0])
    assert codes.dtype == jnp.int32
