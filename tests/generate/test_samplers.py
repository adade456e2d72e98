"""The registry of samplers: one for each prior, and one that a test adds for codes of two grids."""

import dataclasses
import types
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen

from vq_jax import nn
from vq_jax.configs import PriorConfig
from vq_jax.configs.priors import PRIORS, PriorArchitecture
from vq_jax.configs.sampling import Options
from vq_jax.configs.serialize import from_dict, to_dict
from vq_jax.errors import UserError
from vq_jax.generate import (
    SAMPLERS,
    MaskedOptions,
    Sampler,
    SamplingOptions,
    fill_codes,
    sample_maskgit,
    sample_prior,
    sampler_of,
)
from vq_jax.pretrained.prior import Prior
from vq_jax.types import CodeSpec

SPECS = (CodeSpec((2, 2), 8), CodeSpec((4, 4), 5, codes_per_position=2))


class TwoGrids(linen.Module):
    """A prior over a coarse and a fine grid of codes; its draws are all one code, `start`."""

    num_classes: None = None
    code_specs: ClassVar = SPECS

    @linen.compact
    def __call__(self):
        return self.param("start", linen.initializers.zeros, (), jnp.int32)


@dataclasses.dataclass(frozen=True)
class AddedOptions(Options):
    added: int = 0
    """Is added to every code."""


@dataclasses.dataclass(frozen=True)
class TwoGridsArchitecture(PriorArchitecture):
    architecture: ClassVar[str] = "two-grids"
    options: ClassVar[type[Options]] = AddedOptions


def sample_two_grids(model, variables, rng, condition, *, num, options, sharding):
    start = model.apply(variables) + options.added
    return jax.tree.map(lambda spec: jnp.full((num, *spec.array_shape), start, jnp.int32), model.code_specs)


@pytest.fixture
def registered(monkeypatch):
    monkeypatch.setitem(PRIORS, "two-grids", TwoGridsArchitecture)
    monkeypatch.setitem(SAMPLERS, TwoGrids, Sampler(sample_two_grids, AddedOptions))


def two_grids(config):
    """A prior whose tokenizer shows the mean code of the fine grid."""

    def decode(codes, size):
        assert jax.tree.map(lambda spec, grid: grid.shape[1:] == spec.array_shape, SPECS, codes) == (
            True,
            True,
        )
        return np.full((len(codes[0]), *size, 1), codes[1].mean(), np.uint8)

    tokenizer = types.SimpleNamespace(decode=decode, check=lambda pictures: None, strides=(4, 4))
    return Prior(TwoGrids(), {"params": {"start": jnp.asarray(1)}}, tokenizer, config, 1, 8)


def test_every_prior_has_a_sampler_that_takes_its_options():
    for architecture, prior in PRIORS.items():
        assert SAMPLERS[getattr(nn, prior.module)].options is prior.options, architecture


def test_a_prior_has_the_sampler_of_its_base_and_one_without_is_refused():
    class Wider(nn.GPT):
        """A GPT by another name."""

    assert sampler_of(Wider(16, (2,), width=16, num_heads=2)) is SAMPLERS[nn.GPT]
    with pytest.raises(TypeError, match="no sampler for a prior of type Dense .there are for GPT, "):
        sampler_of(linen.Dense(3))


def test_a_hierarchy_is_sampled_by_the_sampler_that_is_registered_for_it(registered):
    config = PriorConfig(name="two", prior=TwoGridsArchitecture(), sampling=AddedOptions(2))
    assert from_dict(to_dict(config)) == config
    prior = two_grids(config)
    codes = prior.sample_codes(5, batch_size=2)
    assert [grid.shape for grid in codes] == [(5, 2, 2), (5, 4, 4, 2)]
    assert all((grid == 3).all() for grid in codes)
    drawn = prior.sample(5, batch_size=2, added=3)
    assert drawn.shape == (5, 8, 8, 1) and (drawn == 4).all()
    batches = list(prior.sample_batches(5, batch_size=2, added=3))
    assert [len(batch) for batch in batches] == [2, 2, 1]
    np.testing.assert_array_equal(np.concatenate(batches), drawn)
    for draw in (prior.sample, prior.sample_codes):
        with pytest.raises(UserError, match="at once needs at least .* GiB of memory .* from sample_batches"):
            draw(10**13)
    assert next(prior.sample_batches(10**13, batch_size=2)).shape == (2, 8, 8, 1)
    with pytest.raises(
        UserError, match="guidance is an option of gpt, .*; this prior, two-grids, takes added"
    ):
        prior.sample(1, guidance=2.0)
    with pytest.raises(UserError, match="unknown option add; did you mean added"):
        prior.sample(1, add=2)
    with pytest.raises(UserError, match="two-grids, cannot inpaint: it draws whole pictures"):
        prior.inpaint(np.zeros((1, 8, 8, 1), np.uint8), np.eye(8, dtype=bool))


def test_holes_are_not_filled_in_several_grids(registered, monkeypatch):
    monkeypatch.setitem(SAMPLERS, TwoGrids, Sampler(sample_two_grids, AddedOptions, fill=sample_two_grids))
    prior = two_grids(PriorConfig(name="two", prior=TwoGridsArchitecture()))
    with pytest.raises(UserError, match="cannot inpaint: it models several grids of codes"):
        prior.inpaint(np.zeros((1, 8, 8, 1), np.uint8), np.eye(8, dtype=bool))


def test_options_must_be_of_the_samplers_class_and_given_codes_need_a_prior_that_keeps_them(registered):
    model = nn.MaskGIT(16, (2, 2), width=16, num_layers=1, num_heads=2)
    codes = jnp.zeros((1, 2, 2), jnp.int32)
    variables = jax.jit(model.init)(jax.random.key(0), codes)
    with pytest.raises(TypeError, match="expected MaskedOptions for this sampler, got SamplingOptions"):
        sample_prior(model, variables, jax.random.key(0), num=1, options=SamplingOptions())
    # By default as many steps as there are positions, of which this grid has less than twelve.
    drawn = sample_prior(model, variables, jax.random.key(0), num=3)
    options = MaskedOptions(steps=4)
    np.testing.assert_array_equal(
        drawn, sample_maskgit(model, variables, jax.random.key(0), num=3, options=options)
    )
    with pytest.raises(ValueError, match="a TwoGrids draws whole pictures or frames and cannot keep"):
        fill_codes(TwoGrids(), {}, jax.random.key(0), None, codes, codes > 0)
    noise = nn.NoiseGenerator(16, (2, 2), 4)
    with pytest.raises(ValueError, match="draws codes of a tokenizer: give tokenizer_model"):
        sample_prior(noise, {}, jax.random.key(0), num=1)


def test_the_sampling_of_a_configuration_is_that_of_its_prior():
    masked = PriorConfig(name="a", prior=PRIORS["maskgit"](width=8, num_heads=2))
    assert masked.sampling == MaskedOptions()
    assert dataclasses.replace(masked, sampling=MaskedOptions(steps=3)).sampling.steps == 3
    with pytest.raises(ValueError, match="sampling must be MaskedOptions for the prior maskgit, got Sampl"):
        dataclasses.replace(masked, sampling=SamplingOptions(guidance=2.0))
    with pytest.raises(ValueError, match="sampling must be SamplingOptions for the prior gpt, got Masked"):
        PriorConfig(name="a", prior=PRIORS["gpt"](width=8, num_heads=2), sampling=MaskedOptions(steps=3))


@pytest.mark.parametrize("architecture", ["gpt", "maskgit", "noise"])
def test_files_from_before_there_was_a_version_have_the_options_of_all_samplers(architecture):
    old = {
        "temperature": 0.5,
        "top_k": 3,
        "top_p": 0.9,
        "guidance": 2.0,
        "guidance_schedule": "linear",
        "guidance_power": 1.0,
        "steps": 7,
        "noise": 1.0,
        "order": "halton",
    }
    values = {"name": "a", "prior": {"architecture": architecture}, "sampling": old}
    if architecture == "noise":
        values["losses"] = {"adversarial_weight": 1.0, "adaptive": False}
    sampling = from_dict(values).sampling
    assert type(sampling) is PRIORS[architecture].options
    assert all(old.get(name, value) == value for name, value in vars(sampling).items())
    kind = "noise" if architecture == "noise" else "prior"
    if architecture != "maskgit":
        with pytest.raises(ValueError, match="unknown field sampling"):
            from_dict({"kind": kind, "version": 1, **values})
