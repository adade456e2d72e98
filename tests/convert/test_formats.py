"""Every format: a small model to a file and back, and files that are refused."""

import json

import jax
import numpy as np
import pytest
import safetensors.numpy
from converted_models import MODELS, saved

import vq_jax
from vq_jax.cli.main import main
from vq_jax.convert.formats import FORMATS
from vq_jax.convert.tokenizers import TokenizerFormat
from vq_jax.convert.torch_writer import torch_file
from vq_jax.convert.weights_file import open_weights


def exported(name, tmp_path):
    """The file of a random model of a format."""
    saved(name, tmp_path / "first")
    target = tmp_path / f"{name}.file"
    assert main(["export", str(tmp_path / "first"), "--to", name, "-o", str(target)]) == 0
    return target


def refused(arguments, capsys):
    assert main(arguments) == 2
    message = capsys.readouterr().err
    assert len(message.splitlines()) <= 3
    return message


def test_tamings_file_is_said_to_lack_its_perceptual_loss():
    assert "the tensors of its perceptual loss" in FORMATS["taming"].lacks


def test_every_format_has_a_model():
    tokenizers = {name for name, kind in FORMATS.items() if isinstance(kind, TokenizerFormat)}
    assert set(MODELS) == {name for name in tokenizers if FORMATS[name].writes}


_LIKE_TAMING = ("llamagen", "ibq")  # its network under other names: CI's


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.ci] * (name in _LIKE_TAMING)) for name in MODELS]
)
def test_a_model_comes_back_from_its_file(name, tmp_path, capsys):
    variables = saved(name, tmp_path / "first")
    target = tmp_path / "out" / f"{name}.file"
    assert main(["export", str(tmp_path / "first"), "--to", name, "-o", str(target)]) == 0
    said = capsys.readouterr().out
    assert ("The file lacks" in said) == bool(FORMATS[name].lacks) and str(target) in said
    place = str(tmp_path / "second")
    assert main(["convert", name, str(target), "-o", place, "--image-size", "32"]) == 0
    found = vq_jax.load(place)
    assert found.code_specs(32).codebook_size == 8
    jax.tree.map(np.testing.assert_array_equal, found.variables["params"], variables["params"])
    again = tmp_path / "again.file"
    assert main(["export", place, "--to", name, "-o", str(again)]) == 0
    assert again.read_bytes() == target.read_bytes()


@pytest.fixture
def tensors(tmp_path):
    """Those of taming's file."""
    file = open_weights(exported("taming", tmp_path), ("state_dict",))
    return {name: file.array(name) for name in file.tensors}


def test_files_of_another_kind_are_refused_by_name(tensors, tmp_path, capsys):
    def message(name, arrays):
        path = tmp_path / "given.ckpt"
        path.write_bytes(torch_file(arrays, "state_dict"))
        found = refused(["convert", name, str(path), "-o", str(tmp_path / "out")], capsys)
        assert not (tmp_path / "out").exists()
        return found

    one = np.zeros((2, 2), np.float32)
    whole = dict(tensors)
    del whole["decoder.conv_out.bias"]
    assert "is not a whole model of taming: it lacks decoder.conv_out.bias (1 of " in message("taming", whole)
    wider = {**tensors, "decoder.conv_out.weight": np.zeros((4, 32, 3, 3), np.float32)}
    assert "decoder.conv_out.weight [4, 32, 3, 3], expected [3, 32, 3, 3]" in message("taming", wider)
    more = {**tensors, **{f"extra.{number}": one for number in range(12)}}
    assert "it has extra.0, " in message("taming", more) and "extra.9 and 2 more too" in message(
        "taming", more
    )
    vae = {name: array for name, array in tensors.items() if not name.startswith("quantize.")}
    assert "looks like a VAE" in message("taming", vae)
    assert "looks like a LoRA" in message("taming", {"unet.up.lora_up.weight": one})
    assert "has 1 tensors: weight" in message("taming", {"weight": one})
    assert "unknown format 'tamming'; did you mean taming?" in message("tamming", tensors)


def test_a_truncated_file_is_refused(tmp_path, capsys):
    path = exported("taming", tmp_path)
    path.write_bytes(path.read_bytes()[:-1000])
    message = refused(["convert", "taming", str(path), "-o", str(tmp_path / "out")], capsys)
    assert "damaged or incomplete" in message and not (tmp_path / "out").exists()


def test_a_model_that_files_cannot_hold_is_refused(tmp_path, capsys):
    saved("taming", tmp_path / "first")
    config = json.loads((tmp_path / "first" / "config.json").read_text())
    config["config"]["model"]["quantizer"]["normalize"] = True
    (tmp_path / "first" / "config.json").write_text(json.dumps(config))
    message = refused(
        ["export", str(tmp_path / "first"), "--to", "taming", "-o", str(tmp_path / "x")], capsys
    )
    assert "small cannot be written as a file of taming: its codebook is compared as it is" in message


def test_a_damaged_record_of_the_file_is_named(tmp_path, capsys):
    path, place = exported("taming", tmp_path), tmp_path / "second"
    assert main(["convert", "taming", str(path), "-o", str(place), "--image-size", "32"]) == 0
    (place / "converted.safetensors").write_bytes(safetensors.numpy.save({}) + b" ")
    message = refused(["export", str(place), "--to", "taming", "-o", str(tmp_path / "x")], capsys)
    assert "converted.safetensors is damaged" in message
