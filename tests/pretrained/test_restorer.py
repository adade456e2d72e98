"""A trained restorer as people use it: sizes, lists, large pictures, saving, and what it refuses."""

import dataclasses
import json
import pickle
import shutil

import numpy as np
import pytest
from cli_runs import pictures
from prior_runs import prior_run, tokenizer_run
from restorer_runs import restorer_config, restorer_run

import vq_jax
from vq_jax.errors import UserError
from vq_jax.train import train


def degraded(*size):
    return pictures(1, *size)[0]


@pytest.fixture(scope="module")
def restorer():
    return vq_jax.load_restorer(restorer_run())


def test_pictures_of_any_size_and_kind_come_back_larger(restorer):
    picture = degraded(11, 7)
    one = restorer.restore(picture)
    assert restorer.scale == 2 and one.shape == (22, 14, 3) and one.dtype == np.uint8
    several = restorer.restore([picture, degraded(8, 8)])
    np.testing.assert_array_equal(several[0], one)
    assert several[1].shape == (16, 16, 3)
    np.testing.assert_array_equal(restorer.restore(picture[None])[0], one)


def in_parts(restorer, picture, fidelity, monkeypatch):
    """The whole picture restored at once and in windows, as integers."""
    from vq_jax.pretrained import restorer as module

    whole = restorer.restore(picture, fidelity=fidelity)
    monkeypatch.setattr(module, "_WINDOW", 200)
    monkeypatch.setattr(module, "_REACHES", 3)
    return whole.astype(int), restorer.restore(picture, fidelity=fidelity).astype(int)


@pytest.mark.parametrize("fidelity", [0, 0.5, 1])
def test_a_large_picture_in_windows_is_that_of_the_whole(restorer, fidelity, monkeypatch):
    assert restorer.model.reach == 54  # px: windows of 200 with a step of 88
    whole, parts = in_parts(restorer, degraded(170, 120), fidelity, monkeypatch)
    np.testing.assert_array_equal(parts, whole)


def test_windows_fade_into_one_another_where_the_network_has_no_bounds(restorer, monkeypatch):
    monkeypatch.setattr(type(restorer.model), "reach", None)
    whole, parts = in_parts(restorer, degraded(120, 100), 1, monkeypatch)
    assert np.abs(parts - whole).max() <= 2  # a margin of 48 px is about this network's reach


def test_fidelity_changes_the_picture_between_its_ends_only(restorer):
    ends = [restorer.restore(degraded(8, 8), fidelity=weight) for weight in (0, 1)]
    assert (ends[0] != ends[1]).any()
    for wrong in (-0.1, 1.5, float("nan")):
        with pytest.raises(UserError, match="expected a fidelity of 0 to 1, got"):
            restorer.restore(degraded(8, 8), fidelity=wrong)


@pytest.mark.ci
def test_a_regressor_has_one_fidelity():
    regressor = vq_jax.load(restorer_run("regressor"))
    assert regressor.restore(degraded(8, 8)).shape == (16, 16, 3)
    with pytest.raises(UserError, match="this regressor has no other, got 0.5"):
        regressor.restore(degraded(8, 8), fidelity=0.5)


def test_a_saved_model_restores_as_the_run_does_and_without_it(restorer, tmp_path):
    restorer.save(tmp_path / "model")
    expected = restorer.restore(degraded(8, 8))
    for again in (vq_jax.load(tmp_path / "model"), pickle.loads(pickle.dumps(restorer))):
        np.testing.assert_array_equal(again.restore(degraded(8, 8)), expected)


def test_the_copy_of_the_tokenizer_serves_and_another_one_is_refused(tmp_path):
    run = tmp_path / "run"
    shutil.copytree(restorer_run(), run)
    record = json.loads((run / "tokenizer.json").read_text())
    (run / "tokenizer.json").write_text(json.dumps({**record, "path": "gone", "relative": None}))
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps({**config, "tokenizer": "gone"}))
    expected = vq_jax.load(restorer_run()).restore(degraded(8, 8))
    np.testing.assert_array_equal(vq_jax.load(run).restore(degraded(8, 8)), expected)
    (run / "tokenizer.json").write_text(json.dumps({**record, "fingerprint": "0" * 32}))
    with pytest.raises(UserError, match="is not the one that the model"):
        vq_jax.load(run, tokenizer=tokenizer_run())


def test_a_model_of_another_kind_is_named_with_what_loads_it():
    with pytest.raises(UserError, match="holds a prior: use load_prior"):
        vq_jax.load_restorer(prior_run())
    with pytest.raises(UserError, match="holds a restorer: use load_restorer"):
        vq_jax.load_prior(restorer_run())
    with pytest.raises(UserError, match="expected a tokenizer, .* holds a restorer"):
        vq_jax.load_tokenizer(restorer_run())


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (np.zeros((8, 8, 3), np.float32), "expected uint8 pictures"),
        (np.zeros((8, 8, 1), np.uint8), "expected pictures with 3 channels"),
        (np.zeros((8, 0, 3), np.uint8), "expected uint8 pictures"),
    ],
)
def test_pictures_that_it_cannot_take_are_refused(restorer, given, expected):
    with pytest.raises(UserError, match=expected):
        restorer.restore(given)


def test_a_tokenizer_that_is_yet_to_be_trained_is_named_with_its_command(tmp_path):
    config = restorer_config()
    missing = dataclasses.replace(config, tokenizer=str(tmp_path / "runs" / "vqgan-photos"))
    with pytest.raises(UserError, match="is not there yet: train it first with `vq-jax train vqgan-photos`"):
        train(missing, tmp_path / "run")
    assert not (tmp_path / "run").exists()
