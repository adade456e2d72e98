"""Configurations as JSON: headers, files written before headers existed, permitted differences."""

import dataclasses
import json

import pytest

from vq_jax.configs import (
    ExperimentConfig,
    GroupedQuantizerConfig,
    MaskGITArchitecture,
    PriorConfig,
    ResidualVQVAE,
    VectorQuantizerConfig,
    VectorQuantizerEMAConfig,
)
from vq_jax.configs.earlier import downgrade_model, upgrade_model
from vq_jax.configs.quantizer_base import QuantizerConfig
from vq_jax.configs.quantizers import QUANTIZERS, convert_quantizer
from vq_jax.configs.registry import RUN_KINDS
from vq_jax.configs.serialize import (
    VERSION,
    fixed_differences,
    from_dict,
    part_to_dict,
    specs_from_json,
    specs_to_json,
    to_dict,
)
from vq_jax.types import CodeSpec

# The model in the config.json of a run from before files had a version.
EARLIER_MODEL = {
    "architecture": "vqvae-residual",
    "image_channels": 3,
    "quantizer": "ema",
    "codebook_size": 32,
    "code_dim": 4,
    "commitment_weight": 0.25,
    "codebook_weight": 1.0,
    "decay": 0.99,
    "epsilon": 1e-05,
    "normalize": False,
    "revive_threshold": 0.03,
    "entropy_weight": 0.0,
    "entropy_temperature": 0.01,
    "channels": 16,
    "residual_channels": 8,
    "num_res_blocks": 1,
    "num_downsamples": 2,
    "upsampling": "transposed",
}


def run_of(kind):
    if kind == "tokenizer":
        return ExperimentConfig("t", ResidualVQVAE())
    return PriorConfig("p", MaskGITArchitecture()) if kind == "prior" else RUN_KINDS[kind]("r")


@pytest.mark.parametrize("kind", sorted(RUN_KINDS))
def test_every_kind_of_run_survives_json_with_its_kind_and_version(kind):
    config = run_of(kind)
    values = json.loads(json.dumps(to_dict(config)))
    assert (values["kind"], values["version"]) == (kind, VERSION)
    assert from_dict(values) == config and type(from_dict(values)) is RUN_KINDS[kind]


@pytest.mark.parametrize(
    "change, message",
    [
        ({"kind": "diffusion"}, "kind 'diffusion', expected tokenizer or prior or noise"),
        ({"version": 99}, f"version 99, but this vq_jax reads version {VERSION}: install a newer"),
    ],
)
def test_what_cannot_be_read_is_named(change, message):
    with pytest.raises(ValueError, match=message):
        from_dict({**to_dict(run_of("tokenizer")), **change})


def test_a_run_without_a_version_is_read():
    expected = ResidualVQVAE(
        channels=16,
        residual_channels=8,
        num_res_blocks=1,
        quantizer=VectorQuantizerEMAConfig(codebook_size=32, code_dim=4, revive_threshold=0.03),
    )
    values = {"name": "old", "model": EARLIER_MODEL, "training": {"steps": 7}}
    config = from_dict(values)
    assert config.model == expected and config.training.steps == 7
    gradient = {**EARLIER_MODEL, "quantizer": "gradient", "codebook_weight": 0.5}
    quantizer = from_dict({**values, "model": gradient}).model.quantizer
    assert quantizer == VectorQuantizerConfig(
        codebook_size=32, code_dim=4, revive_threshold=0.03, codebook_weight=0.5
    )


@pytest.mark.parametrize("kind", ["prior", "noise"])
def test_the_kind_of_a_prior_without_a_version_follows_from_its_parts(kind):
    values = {name: value for name, value in to_dict(run_of(kind)).items() if name not in ("kind", "version")}
    assert from_dict(values) == run_of(kind)


def test_a_model_is_written_in_the_form_without_a_version():
    upgraded = part_to_dict(from_dict({"name": "old", "model": EARLIER_MODEL}).model)
    expected = upgrade_model(EARLIER_MODEL)
    later = {"gradient": "straight_through", "diveq_noise": 1e-3}
    assert upgraded == {**expected, "quantizer": {**expected["quantizer"], **later}}
    assert downgrade_model(upgraded) == EARLIER_MODEL


def test_only_fields_that_define_the_run_count_as_fixed():
    old = PriorConfig("p", MaskGITArchitecture(), tokenizer="runs/a")
    training = dataclasses.replace(old.training, steps=7, seed=3, log_every=2)
    new = dataclasses.replace(old, tokenizer="runs/b", training=training)
    assert set(fixed_differences(old, new, "resume")) == {"training.seed"}
    assert set(fixed_differences(old, new, "processes")) == {
        "training.seed",
        "training.steps",
        "training.log_every",
    }


def test_quantizers_of_two_names_keep_the_fields_that_both_have(monkeypatch):
    @dataclasses.dataclass(frozen=True)
    class Other(QuantizerConfig):
        codebook_size: int = 16
        decay: float = 0.5

    old = VectorQuantizerEMAConfig(codebook_size=7, code_dim=3, epsilon=1.0)
    assert convert_quantizer(old, "gradient") == VectorQuantizerConfig(codebook_size=7, code_dim=3)
    assert convert_quantizer(old, "ema") is old
    # A default is the quantizer's own, not a choice to keep.
    monkeypatch.setitem(QUANTIZERS, "other", Other)
    assert convert_quantizer(old, "other") == Other(codebook_size=7, decay=0.5)
    with pytest.raises(ValueError, match="unknown quantizer 'emma'; did you mean ema"):
        convert_quantizer(old, "emma")


def test_a_wrapper_is_chosen_around_the_old_quantizer_or_around_another():
    old = VectorQuantizerEMAConfig(codebook_size=7, code_dim=3)
    grouped = convert_quantizer(old, "grouped")
    assert grouped == GroupedQuantizerConfig(inner=old) and grouped.latent_channels == 6
    four = grouped.override({"num_groups": 4, "codebook_size": 9})
    assert (four.num_groups, four.inner.codebook_size, four.inner.code_dim) == (4, 9, 3)
    other = convert_quantizer(four, "grouped:gradient")
    assert other == GroupedQuantizerConfig(
        num_groups=4, inner=VectorQuantizerConfig(codebook_size=9, code_dim=3)
    )
    assert convert_quantizer(four, "grouped") == four
    assert convert_quantizer(four, "gradient") == other.inner
    assert four.has_codebook and not convert_quantizer(four, "grouped:fsq").has_codebook
    with pytest.raises(ValueError, match="the quantizer fsq wraps no other: give 'fsq' alone"):
        convert_quantizer(old, "fsq:ema")
    with pytest.raises(ValueError, match="unknown quantizer 'fsk'; did you mean fsq"):
        convert_quantizer(old, "grouped:fsk")


def test_a_quantizer_in_another_survives_json():
    model = ResidualVQVAE().override(quantizer="grouped:grouped:fsq", levels=(8, 6, 5), num_groups=3)
    config = ExperimentConfig(name="nested", model=model)
    values = json.loads(json.dumps(to_dict(config)))
    assert values["model"]["quantizer"]["inner"]["inner"]["levels"] == [8, 6, 5]
    assert from_dict(values) == config
    del values["model"]["quantizer"]["inner"]["name"]
    with pytest.raises(ValueError, match=r"model.quantizer.inner.name is missing"):
        from_dict(values)


@pytest.mark.parametrize("name", sorted(QUANTIZERS))
def test_every_quantizer_can_be_chosen_for_an_architecture(name):
    model = ResidualVQVAE().override(quantizer=name)
    assert (
        model.quantizer.name == name and model.build().quantizer.__class__.__name__ == QUANTIZERS[name].module
    )


def test_specs_survive_json():
    for specs in (CodeSpec((4, 4), 16), (CodeSpec((2,), 8), CodeSpec((4, 4), 16, 3))):
        assert specs_from_json(json.loads(json.dumps(specs_to_json(specs)))) == specs
