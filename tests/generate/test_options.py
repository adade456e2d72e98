"""Sampling options: ranges, and what is compiled for."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vq_jax.generate import MaskedOptions, SamplingOptions


@pytest.mark.parametrize(
    "fields,message",
    [
        ({"temperature": -0.1}, r"temperature of at least 0 \(0 is greedy\), got -0.1"),
        ({"temperature": np.float32(-1.0)}, "temperature of at least 0 .* got -1.0"),
        ({"temperature": float("nan")}, "temperature of at least 0 .* got nan"),
        ({"top_k": -1}, r"top_k of at least 0 \(0 keeps all\), got -1"),
        ({"top_p": 0.0}, r"top_p in \(0, 1\], got 0.0"),
        ({"top_p": 1.01}, r"top_p in \(0, 1\], got 1.01"),
        ({"guidance": -1.0}, r"guidance of at least 0 \(1 is none\), got -1.0"),
        ({"guidance_schedule": "cubic"}, "constant, linear, power_cosine, got 'cubic'"),
        ({"guidance_power": 0.0}, "guidance_power above 0, got 0.0"),
    ],
)
def test_values_out_of_range_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        SamplingOptions(**fields)


@pytest.mark.parametrize(
    "fields,message",
    [
        ({"steps": 0}, "at least one step, got 0"),
        ({"schedule": "cubic"}, "mask schedule of cosine, .*, got 'cubic'"),
        ({"order": "raster"}, "order of confidence, halton, got 'raster'"),
        ({"noise": -1.0}, "noise of at least 0, got -1.0"),
    ],
)
def test_masked_values_out_of_range_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        MaskedOptions(**fields)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"temperature": 0.0, "top_p": 0.3},
        {"temperature": 0.7, "top_k": 3, "top_p": 0.9, "guidance": 0.0},
        {"guidance": 3.0, "guidance_schedule": "power_cosine", "guidance_power": 2.75},
    ],
)
def test_split_options_draw_the_same_codes_when_joined_under_jit(getkey, fields):
    options, logits, rng = SamplingOptions(**fields), jax.random.normal(getkey(), (8, 11)), getkey()
    structure, numbers = options.split()
    assert all(type(value) is float for value in numbers.values())

    @jax.jit
    def joined(numbers):
        traced = structure.join(numbers)
        assert (traced.greedy, traced.guided) == (options.greedy, options.guided)
        return traced.draw(rng, traced.guide(logits, 0.5))

    np.testing.assert_array_equal(joined(numbers), options.draw(rng, options.guide(logits, 0.5)))


def test_options_that_differ_in_numbers_share_a_structure():
    one = SamplingOptions(temperature=0.7, top_p=0.9, guidance=2.0, top_k=5).split()
    other = SamplingOptions(temperature=1.3, top_p=0.2, guidance=4.0, top_k=5).split()
    assert one[0] == other[0] and hash(one[0]) == hash(other[0]) and one[1] != other[1]
    for fields in ({}, {"temperature": 0.0}, {"top_k": 4}, {"guidance_schedule": "linear"}):
        assert SamplingOptions(**fields).split()[0] != one[0]


def test_greedy_ignores_the_key_and_filters(getkey):
    logits = jax.random.normal(getkey(), (8, 11))
    options = SamplingOptions(temperature=0.0, top_k=3, top_p=0.1)
    assert options.greedy
    np.testing.assert_array_equal(options.draw(getkey(), logits), jnp.argmax(logits, -1))
