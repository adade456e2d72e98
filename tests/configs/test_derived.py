"""A configuration that has the fields of another one without repeating them."""

import dataclasses
import pickle
import typing

import pytest
import tyro

from vq_jax.configs import CodesConfig, ColourConfig, DataConfig, NoDegradationConfig, PriorDataConfig


def by_name(cls):
    return {field.name: field for field in dataclasses.fields(cls)}


def test_the_data_of_a_prior_have_all_fields_of_a_tokenizers_in_their_order():
    assert list(by_name(PriorDataConfig)) == list(by_name(DataConfig))
    own = {"batch_size": 64, "num_workers": 0}
    own |= {"colour": ColourConfig(), "degradation": NoDegradationConfig()}  # a prior learns true pictures
    for name, field in by_name(PriorDataConfig).items():
        assert field.default == own.get(name), name
    hints = typing.get_type_hints(PriorDataConfig)
    for name in by_name(DataConfig):
        hint = typing.get_type_hints(DataConfig)[name]
        given = NoDegradationConfig if name == "degradation" else hint  # it takes no other
        assert hints[name] == (given if name in own else hint | None)


def test_what_may_differ_is_the_same_for_both():
    original = by_name(DataConfig)
    for name, field in by_name(PriorDataConfig).items():
        assert field.metadata.get("may_differ") == original[name].metadata.get("may_differ"), name
    differing = {
        f"{prefix}.{name}": field.metadata["may_differ"]
        for prefix, cls in (("data", DataConfig), ("codes", CodesConfig))
        for name, field in by_name(cls).items()
        if "may_differ" in field.metadata
    }
    assert differing == {
        "data.class_names": ("resume",),
        "data.data_dir": ("resume", "processes"),
        "data.max_megapixels": ("resume",),
        "data.source": ("resume", "processes"),
        "data.num_workers": ("resume", "processes"),
        "data.test_limit": ("resume",),
        "codes.directory": ("resume", "processes"),
        "codes.mode": ("resume",),
    }


def test_a_field_that_is_absent_is_the_tokenizers():
    tokenizer = DataConfig("fashion", image_size=28, scaled_decoding=False, num_workers=3)
    resolved = PriorDataConfig(flip=False, crop="center").resolve(tokenizer)
    expected = dataclasses.replace(tokenizer, flip=False, crop="center", batch_size=64, num_workers=0)
    assert resolved == expected
    assert PriorDataConfig(scaled_decoding=True).resolve(tokenizer).scaled_decoding


def test_ranges_are_those_of_the_tokenizers_fields():
    for name, value in (("image_size", 2), ("batch_size", 0), ("test_limit", 0), ("num_workers", -1)):
        for cls in (DataConfig, PriorDataConfig):
            with pytest.raises(ValueError, match=f"data.{name} must .*got {value}"):
                cls(**{name: value})


def test_a_derived_configuration_is_a_frozen_value():
    config = PriorDataConfig(source="photos")
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.source = "fashion"
    assert config == PriorDataConfig(source="photos") == pickle.loads(pickle.dumps(config))
    with pytest.raises(TypeError, match="mirror"):
        PriorDataConfig(mirror=True)


@dataclasses.dataclass(frozen=True)
class Command:
    data: PriorDataConfig = PriorDataConfig()


def test_the_command_line_takes_every_field_and_explains_it(capsys):
    arguments = "--data fashion --batch-size 8 --data.scaled-decoding False --data.resize random".split()
    chosen = tyro.cli(Command, args=arguments).data
    assert chosen == PriorDataConfig(source="fashion", batch_size=8, scaled_decoding=False, resize="random")
    with pytest.raises(SystemExit):
        tyro.cli(Command, args=["--help"])
    shown = " ".join(capsys.readouterr().out.replace("│", " ").split())
    for name in by_name(PriorDataConfig).keys() - {"degradation"}:
        assert f"--data.{name.replace('_', '-')}" in shown
    for words in ("tfds:NAME[:SPLIT]", "Grids of codes a step", "Mirror every other", "Decode a JPEG file"):
        assert words in shown
