"""Metrics that a run was asked for, at each of its evaluations."""

import dataclasses
import json

import jax.numpy as jnp
import numpy as np
import pytest
from cli_runs import call
from runs import STEPS, finished_run, rows_of, small_config

from vq_jax.errors import UserError
from vq_jax.nn.features import vgg16
from vq_jax.nn.features.feature_network import FeatureNetwork, Features
from vq_jax.pretrained.build import build_model
from vq_jax.train import train
from vq_jax.train.tasks.chosen_metrics import RunSets, make_run_evaluators

METRICS = ("ssim", "fd-vgg", "kd-vgg")


def _compute(weights, pictures):
    return Features(jnp.mean(weights * pictures.astype(jnp.float32), axis=(1, 2)), None)


@pytest.fixture(autouse=True)
def small_vgg(monkeypatch):
    """Mean colours in the place of VGG16, whose weights are not installed everywhere."""
    network = FeatureNetwork("vgg", 3, 0, 8, "mean colours", jnp.float32(1 / 255), _compute)
    monkeypatch.setattr(vgg16, "vgg16_network", lambda: network)


def with_metrics(*metrics, **fields):
    return dataclasses.replace(small_config(), metrics=metrics, **fields)


@pytest.mark.ci
def test_chosen_metrics_are_in_every_evaluation_and_are_those_of_the_command(tmp_path):
    train(with_metrics(*METRICS), tmp_path / "run")
    rows = [row for row in rows_of(tmp_path / "run") if "validation/psnr" in row]
    names = {"ssim", "fd-vgg", "kd-vgg", "kd_std-vgg"}
    assert [row["step"] for row in rows] == [4, 8, STEPS]
    assert all(f"validation/{name}" in row for row in rows for name in names)
    assert len({row["validation/fd-vgg"] for row in rows}) == 3
    # What every run has is what it would be without them.
    before = [row for row in rows_of(finished_run()) if "validation/psnr" in row]
    for row, other in zip(rows, before, strict=True):
        assert {name: row[name] for name in other if name.startswith("validation/")} == pytest.approx(
            {name: value for name, value in other.items() if name.startswith("validation/")}, rel=1e-6
        )
    out = tmp_path / "figures.json"
    assert call("evaluate", tmp_path / "run", "--metrics", *METRICS, "-o", out) == 0
    found = json.loads(out.read_text())["figures"]
    assert found == pytest.approx({name: rows[-1][f"validation/{name}"] for name in names}, rel=1e-4)


def opened(config, size):
    batch = {"image": np.zeros((4, size, size, 3), np.uint8), "valid": np.ones(4, bool)}
    make_run_evaluators(config, build_model(config), batch)
    return RunSets(config, [batch])


@pytest.mark.parametrize(
    ("config", "size", "words"),
    [
        (with_metrics("ssimm"), 16, "unknown metric 'ssimm'.*ssim"),
        (with_metrics("fd-vgh"), 16, "unknown feature network 'vgh'.*vgg"),
        (with_metrics("flicker"), 16, "clips"),
        (with_metrics("fd-vgg"), 4, "at least 8 px for the features of vgg"),
        (with_metrics("fd-motion-vgg"), 16, "clips of 2 frames or more"),
        (with_metrics("prdc-vgg"), 16, "prdc-vgg: expected more than 5 pictures"),
        (with_metrics("pfd-vgg"), 16, "pfd-vgg is not measured by runs: `vq-jax evaluate` does"),
        (with_metrics("is-vgg"), 16, "network with classes for is-vgg"),
        (with_metrics("fd-vgg", inception="weights.pth"), 16, "weights that no metric needs"),
        (with_metrics("fd-inception"), 16, "need the weights of 2015"),
    ],
    ids=lambda value: value.metrics[0] if hasattr(value, "metrics") else "",
)
def test_a_metric_that_a_run_cannot_have_is_refused_before_it_begins(config, size, words):
    with pytest.raises(UserError, match=words):
        opened(config, size)
