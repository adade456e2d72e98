"""Model directories: what is saved is loaded to the bit, and nothing else is taken for it."""

import json
import os
import shutil

import jax
import numpy as np
import pytest
import safetensors.numpy
from cli_runs import call, pictures
from made import make_prior, make_tokenizer, write_run

import vq_jax
from vq_jax.errors import UserError
from vq_jax.pretrained import model_directory


@pytest.fixture(scope="module")
def tokenizer():
    return make_tokenizer()


@pytest.fixture
def saved(tokenizer, tmp_path):
    tokenizer.save(tmp_path / "model")
    return tmp_path / "model"


def assert_same_variables(one, other):
    assert jax.tree.structure(one) == jax.tree.structure(other)
    for first, second in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_array_equal(first, second)


def tree(directory):
    return {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def test_a_saved_tokenizer_is_loaded_to_the_bit(tokenizer, saved):
    loaded = vq_jax.load(saved)
    assert isinstance(loaded, vq_jax.Tokenizer)
    assert (loaded.config, loaded.step, loaded.model) == (tokenizer.config, 3, tokenizer.model)
    assert loaded.fingerprint == tokenizer.fingerprint
    assert_same_variables(loaded.variables, tokenizer.variables)
    given = pictures(2, 8, 8, 1)
    np.testing.assert_array_equal(loaded.reconstruct(given), tokenizer.reconstruct(given))


def test_the_files_say_what_they_are(tokenizer, saved):
    values = json.loads((saved / "config.json").read_text())
    assert (values["kind"], values["version"], values["step"]) == ("model", 1, 3)
    assert values["config"]["kind"] == "tokenizer" and len(values["weights"]["sha256"]) == 64
    arrays = safetensors.numpy.load_file(saved / "model.safetensors")
    assert {"params/encoder/Dense_0/kernel", "codebook/quantizer/embedding"} <= set(arrays)
    assert arrays["codebook/quantizer/zero_weight"].shape == ()
    assert {path.name for path in saved.iterdir()} == {"config.json", "model.safetensors"}


def test_a_saved_prior_is_loaded_with_its_tokenizer(tmp_path):
    prior = make_prior()
    prior.save(tmp_path / "model")
    loaded = vq_jax.load(tmp_path / "model")
    assert isinstance(loaded, vq_jax.Prior)
    assert (loaded.model, loaded.step, loaded.image_size) == (prior.model, 5, 8)
    assert loaded.tokenizer.fingerprint == prior.tokenizer.fingerprint
    assert_same_variables(loaded.variables, prior.variables)
    assert "somewhere/else" not in (tmp_path / "model" / "config.json").read_text()
    assert_same_variables(vq_jax.load(tmp_path / "model" / "tokenizer").variables, prior.tokenizer.variables)


def test_a_run_is_saved_as_the_model_that_it_loads_as(tmp_path):
    write_run(tmp_path / "run")
    loaded = vq_jax.load(tmp_path / "run")
    loaded.save(tmp_path / "model")
    again = vq_jax.load(tmp_path / "model")
    assert_same_variables(again.variables, loaded.variables)
    assert (again.config, again.step) == (loaded.config, 2)


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def other_weights(path):
    """Weights of another model, with their true digest."""
    arrays = safetensors.numpy.load(path.read_bytes())
    arrays["params/encoder/Dense_0/kernel"] = np.zeros((2, 2), np.float32)
    path.write_bytes(safetensors.numpy.save(arrays))
    rewrite(path.with_name("config.json"), sha=path.read_bytes())


def foreign_weights(path):
    path.write_bytes(b"no safetensors")
    rewrite(path.with_name("config.json"), sha=path.read_bytes())


def rewrite(path, sha=None, **values):
    read = json.loads(path.read_text()) | values
    if sha is not None:
        read["weights"]["sha256"] = model_directory.hashlib.sha256(sha).hexdigest()
    path.write_text(json.dumps(read))


@pytest.mark.parametrize(
    "name, damage, message",
    [
        ("model.safetensors", flip, "model.safetensors is damaged or of another model: its digest"),
        ("model.safetensors", lambda path: path.unlink(), "model.safetensors cannot be read: No such file"),
        (
            "model.safetensors",
            other_weights,
            r"expected float32 \[64, 16\] for params/encoder/Dense_0/kernel",
        ),
        ("model.safetensors", foreign_weights, "cannot be read as safetensors"),
        ("config.json", lambda path: rewrite(path, version=2), "version 2.* install a newer vq_jax"),
        ("config.json", lambda path: rewrite(path, config={"kind": "film"}), "cannot be read as the conf"),
        ("config.json", lambda path: rewrite(path, weights={}), "cannot be read as the configuration"),
        ("config.json", lambda path: rewrite(path, kind="film"), "'film'"),
    ],
)
def test_a_damaged_or_foreign_file_is_one_clear_error(name, damage, message, saved):
    damage(saved / name)
    with pytest.raises(UserError, match=message):
        vq_jax.load(saved)


def test_a_prior_without_its_codes_or_its_tokenizer_is_refused(tmp_path):
    make_prior().save(tmp_path / "model")
    shutil.copytree(tmp_path / "model", tmp_path / "other")
    rewrite(tmp_path / "model" / "config.json", codes={})
    with pytest.raises(UserError, match="does not say what codes its prior models"):
        vq_jax.load(tmp_path / "model")
    shutil.rmtree(tmp_path / "other" / "tokenizer")
    with pytest.raises(UserError, match="tokenizer is not a run directory"):
        vq_jax.load(tmp_path / "other")


def test_only_a_model_is_replaced(tokenizer, saved, tmp_path):
    other = make_tokenizer(seed=1)
    (saved / "README.md").write_text("mine")
    other.save(saved)
    assert vq_jax.load(saved).fingerprint == other.fingerprint != tokenizer.fingerprint
    assert (saved / "README.md").read_text() == "mine"
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text('{"kind": "tokenizer", "version": 1}')
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.txt").write_text("notes")
    (tmp_path / "file").write_text("a file")
    before = tree(tmp_path)
    for name in ("run", "notes", "file"):
        with pytest.raises(UserError, match="exists and is not a model directory"):
            tokenizer.save(tmp_path / name)
    assert tree(tmp_path) == before
    (tmp_path / "empty").mkdir()
    tokenizer.save(tmp_path / "empty")


def test_a_save_that_fails_leaves_what_was_there(tokenizer, saved, tmp_path, monkeypatch):
    before = tree(tmp_path)
    synced = []

    def fill(number):
        synced.append(number)
        if len(synced) % 2 == 0:  # of the two files the second
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fill)
    for place in (saved, tmp_path / "new"):
        with pytest.raises(UserError, match="cannot write the model directory .*: No space left on device"):
            make_tokenizer(seed=1).save(place)
    assert tree(tmp_path) == before
    monkeypatch.undo()
    tokenizer.save(tmp_path / "new")  # what the failed save left is not in the way


def test_the_commands_take_a_model_directory(saved, tmp_path, capsys):
    assert call("inspect", saved) == 0
    output = capsys.readouterr().out
    assert "small: vqvae-mlp, step 3" in output and "8 codes, 4 wide" in output
    np.savez(tmp_path / "codes.npz", names=["a"], sizes=[[8, 8]], codes_0=np.zeros(4, np.int32))
    assert call("decode", saved, tmp_path / "codes.npz", "-o", tmp_path / "out") == 0
    assert (tmp_path / "out" / "a.png").exists()


def test_a_checkpoint_or_model_is_loaded_by_its_step(tmp_path):
    write_run(tmp_path / "run", steps=(1, 2))
    assert [vq_jax.load(tmp_path / "run", step=step).step for step in (1, 2)] == [1, 2]
    vq_jax.load(tmp_path / "run", step=1).save(tmp_path / "model")
    assert vq_jax.load(tmp_path / "model", step=1).step == 1
    for place, options, message in (
        ("run", {"step": 3}, r"no checkpoint of step 3 .*there are \[1, 2\]"),
        ("run", {"step": 1, "best": True}, "expected best or a step, got both"),
        ("model", {"step": 2}, "holds the model of step 1 alone"),
        ("model", {"tokenizer": tmp_path / "run"}, "holds a tokenizer: give no other one"),
    ):
        with pytest.raises(UserError, match=message):
            vq_jax.load(tmp_path / place, **options)


def test_the_tokenizer_of_a_saved_prior_may_be_elsewhere(tmp_path):
    prior = make_prior()
    prior.save(tmp_path / "prior")
    prior.tokenizer.save(tmp_path / "same")
    make_tokenizer(seed=1).save(tmp_path / "other")
    shutil.rmtree(tmp_path / "prior" / "tokenizer")
    loaded = vq_jax.load(tmp_path / "prior", tokenizer=tmp_path / "same")
    assert loaded.tokenizer.fingerprint == prior.tokenizer.fingerprint
    with pytest.raises(UserError, match="gives other codes"):
        vq_jax.load(tmp_path / "prior", tokenizer=tmp_path / "other")
