"""Callbacks of a run, among them the one of Weights & Biases, with a stand-in for its package."""

import sys
import types

import pytest
from cli_runs import call, train_arguments
from runs import small_config

from vq_jax.errors import UserError
from vq_jax.runs.rundir import read_metrics
from vq_jax.train import WeightsAndBiases, train


class Stop(Exception):
    pass


def test_callbacks_see_each_row_and_one_that_raises_costs_no_step(tmp_path):
    seen = []

    def stop(step, row):
        seen.append((step, row["loss"]))
        row.clear()  # it is theirs
        if step == 3:
            raise Stop

    with pytest.raises(Stop):
        train(small_config(), tmp_path, callbacks=[stop])
    assert seen == [(row["step"], row["loss"]) for row in read_metrics(tmp_path)]
    assert [step for step, _ in seen] == [1, 2, 3] and (tmp_path / "checkpoints" / "3").exists()


def test_weights_and_biases_is_a_callback(monkeypatch):
    calls = []
    run = types.SimpleNamespace(
        log=lambda row, step: calls.append((step, row)), finish=lambda: calls.append("finished")
    )
    stand_in = types.SimpleNamespace(init=lambda **settings: calls.append(settings) or run)
    monkeypatch.setitem(sys.modules, "wandb", stand_in)
    callback = WeightsAndBiases("photos", name="mine")
    assert calls == []
    callback(1, {"loss": 2.0})
    callback.close()
    assert calls == [{"project": "photos", "name": "mine"}, (1, {"loss": 2.0}), "finished"]


def test_a_missing_package_is_said_before_anything_is_written(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(UserError, match=r'pip install "vq-jax\[wandb\]"'):
        WeightsAndBiases("photos")
    assert call(*train_arguments(tmp_path / "run", "--wandb", "photos")) == 2
    assert "vq-jax[wandb]" in capsys.readouterr().err and not (tmp_path / "run").exists()
