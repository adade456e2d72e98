"""Names of classes, which a run finds in its data, stay with its configuration."""

import dataclasses
import types

from vq_jax.cli.inspect_run import _described
from vq_jax.configs.presets import load_preset
from vq_jax.configs.serialize import fixed_differences, from_dict, to_dict


def named(preset="vqvae-photos"):
    config = load_preset(preset)
    return dataclasses.replace(config, data=dataclasses.replace(config.data, class_names=("cats", "dogs")))


def test_names_of_classes_are_in_what_is_written_and_may_be_found_anew():
    for preset in ("vqvae-photos", "prior-fashion"):
        config = named(preset)
        assert to_dict(config)["data"]["class_names"] == ["cats", "dogs"]
        assert from_dict(to_dict(config)) == config
        assert not fixed_differences(config, load_preset(preset), across="resume")


def test_inspect_prints_them():
    trained = types.SimpleNamespace(config=named(), step=3)
    assert _described(trained)[-1] == "  classes: cats, dogs"
    assert not any(
        "classes" in line
        for line in _described(types.SimpleNamespace(config=load_preset("vqvae-photos"), step=3))
    )
