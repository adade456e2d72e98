"""Sampling options: ranges, and what is compiled for."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vq_jax.generate import MaskedOptions, NoiseOptions, SamplingOptions, trace_options


@pytest.mark.parametrize(
    "fields,message",
    [
        ({"temperature": -0.1}, r"temperature must be at least 0 \(0 is greedy\), got -0.1"),
        ({"temperature": np.float32(-1.0)}, "temperature must be at least 0 .* got -1.0"),
        ({"temperature": float("nan")}, "temperature must be a finite number, got nan"),
        ({"top_k": -1}, r"top_k must be at least 0 \(0 keeps all\), got -1"),
        ({"top_p": 0.0}, r"top_p must lie in \(0, 1\], got 0.0"),
        ({"top_p": 1.01}, r"top_p must lie in \(0, 1\], got 1.01"),
        ({"guidance": -1.0}, r"guidance must be at least 0 \(1 is none\), got -1.0"),
        (
            {"guidance_schedule": "cubic"},
            "guidance_schedule must be one of constant, linear, power_cosine, got 'cubic'",
        ),
        ({"guidance_power": 0.0}, "guidance_power must be positive, got 0.0"),
    ],
)
def test_values_out_of_range_are_refused(fields, message):
    for options in (SamplingOptions, MaskedOptions):
        with pytest.raises(ValueError, match=message):
            options(**fields)


@pytest.mark.parametrize(
    "fields,message",
    [
        ({"steps": 0}, "steps must be at least 1, got 0"),
        ({"mask_schedule": "cubic"}, "mask_schedule must be one of cosine, .*, got 'cubic'"),
        ({"order": "raster"}, "order must be one of confidence, halton, got 'raster'"),
        ({"noise": -1.0}, "noise must be at least 0 .*, got -1.0"),
    ],
)
def test_masked_values_out_of_range_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        MaskedOptions(**fields)


def test_the_scale_of_the_noise_is_checked():
    with pytest.raises(
        ValueError, match=r"temperature must be at least 0 \(the scale of the noise\), got -1.0"
    ):
        NoiseOptions(temperature=-1.0)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"temperature": 0.0, "top_p": 0.3},
        {"temperature": 0.7, "top_k": 3, "top_p": 0.9, "guidance": 0.0},
        {"guidance": 3.0, "guidance_schedule": "power_cosine", "guidance_power": 2.75},
    ],
)
def test_traced_options_draw_the_same_codes_under_jit(getkey, fields):
    options, logits, rng = SamplingOptions(**fields), jax.random.normal(getkey(), (8, 11)), getkey()
    traced = trace_options(options)
    assert all(type(value) is float for value in jax.tree.leaves(traced))
    assert {name: traced.value(name) for name in vars(options)} == vars(options)

    def draw(traced):
        assert (traced.greedy, traced.guided) == (options.greedy, options.guided)
        return traced.draw(rng, traced.guide(logits, 0.5))

    np.testing.assert_array_equal(jax.jit(draw)(traced), draw(traced))


def test_options_that_differ_in_numbers_alone_share_a_structure():
    def structure(options):
        return jax.tree.structure(trace_options(options))

    fields = {"temperature": 0.7, "top_p": 0.9, "guidance": 2.0, "top_k": 5}
    one, other = SamplingOptions(**fields), SamplingOptions(1.3, 5, 0.2, 4.0)
    assert structure(one) == structure(other) and hash(structure(one)) == hash(structure(other))
    assert jax.tree.leaves(trace_options(one)) != jax.tree.leaves(trace_options(other))
    for changed in (
        {"temperature": 0.0},
        {"temperature": 1.0},
        {"top_k": 4},
        {"top_p": 1.0},
        {"guidance": 1.0},
        {"guidance_schedule": "linear"},
    ):
        assert structure(SamplingOptions(**{**fields, **changed})) != structure(one), changed
    masked = structure(MaskedOptions(noise=1.0))
    assert masked == structure(MaskedOptions(noise=2.0)) != structure(MaskedOptions(steps=3))
    assert structure(NoiseOptions(0.0)) == structure(NoiseOptions(2.0))


def test_options_of_another_class_are_refused():
    assert trace_options(trace_options(MaskedOptions()), SamplingOptions).structure == MaskedOptions(
        noise=4.5
    )
    for options in (SamplingOptions(), trace_options(SamplingOptions())):
        with pytest.raises(TypeError, match="expected MaskedOptions for this sampler, got SamplingOptions"):
            trace_options(options, MaskedOptions)


def test_greedy_ignores_the_key_and_filters(getkey):
    logits = jax.random.normal(getkey(), (8, 11))
    options = trace_options(SamplingOptions(temperature=0.0, top_k=3, top_p=0.1))
    assert options.greedy
    np.testing.assert_array_equal(options.draw(getkey(), logits), jnp.argmax(logits, -1))
