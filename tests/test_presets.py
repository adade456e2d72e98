import ast
import json

import pytest

from vq_jax.config import ExperimentConfig, from_dict, to_dict
from vq_jax.errors import UserError
from vq_jax.presets import DEFAULT_PRESET, load_experiment, presets


def test_the_default_is_a_preset():
    assert DEFAULT_PRESET in presets()


@pytest.mark.parametrize("name", presets())
def test_a_preset_has_its_name_and_its_command_and_survives_json(name):
    config = load_experiment(name)
    assert config.name == name
    assert from_dict(json.loads(json.dumps(to_dict(config)))) == config
    docstring = ast.get_docstring(ast.parse(presets()[name].read_text()))
    assert f"vq-jax train {name}\n" in docstring + "\n"
    assert "Hardware:" in docstring


def test_a_preset_is_found_under_the_name_of_its_file():
    assert load_experiment("vqvae_fashion_mlp") == load_experiment("vqvae-fashion-mlp")


def test_an_experiment_is_read_from_a_file_of_ones_own(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(
        "import dataclasses\n"
        "from vq_jax.presets import load_experiment\n"
        "config = dataclasses.replace(load_experiment('vqvae-fashion'), name='mine')\n"
    )
    config = load_experiment(str(file))
    assert isinstance(config, ExperimentConfig) and config.name == "mine"


def test_an_unknown_preset_names_the_nearest():
    with pytest.raises(UserError, match="unknown preset 'vqvae-foto'; did you mean vqvae-photos"):
        load_experiment("vqvae-foto")


@pytest.mark.parametrize(
    "code, message",
    [
        ("config = 1 / 0", "fails when it is run: ZeroDivisionError"),
        ("config = (", "fails when it is run: SyntaxError"),
        (
            "from vq_jax.config import DataConfig\nDataConfig(batch_size=0)",
            "data.batch_size must be at least 1",
        ),
        ("settings = 1", "must expose `config`, an ExperimentConfig; it has none"),
        ("config = {}", "must expose `config`, an ExperimentConfig; it is a dict"),
    ],
)
def test_a_file_that_is_no_experiment_is_refused(tmp_path, code, message):
    file = tmp_path / "wrong.py"
    file.write_text(code)
    with pytest.raises(UserError, match=message):
        load_experiment(str(file))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match="no such file .*nowhere.py"):
        load_experiment(str(tmp_path / "nowhere.py"))
