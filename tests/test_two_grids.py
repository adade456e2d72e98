"""A model with two grids of codes goes through the whole library without a change in it."""

import json

import numpy as np
import pytest
import toy_grids
from cli_runs import call, pictures

import vq_jax
from vq_jax.configs import (
    CodesConfig,
    DataConfig,
    ExperimentConfig,
    PriorConfig,
    PriorDataConfig,
    TrainingConfig,
)
from vq_jax.nn import CodeSpec
from vq_jax.runs.grids import encode_png

SPECS = (CodeSpec((2, 2), 8), CodeSpec((4, 4), 16, 2))


@pytest.fixture(scope="module")
def registered():
    with pytest.MonkeyPatch.context() as patch:
        toy_grids.register(patch)
        yield


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    file = tmp_path_factory.mktemp("data") / "labelled.npz"
    np.savez(file, images=pictures(40, 16, 16), labels=np.arange(40) % 2)
    return file


@pytest.fixture(scope="module")
def run(registered, data, tmp_path_factory):
    """The run of the tokenizer."""
    config = ExperimentConfig(
        name="two-grids",
        model=toy_grids.ToyModel(),
        data=DataConfig(source=f"arrays:{data}", image_size=16, batch_size=8),
        training=TrainingConfig(
            steps=4, log_every=2, eval_every=4, image_every=4, save_every=4, ema_decay=0.9
        ),
    )
    workdir = tmp_path_factory.mktemp("runs") / "tokenizer"
    assert vq_jax.fit(config, workdir).step == 4
    return workdir


def test_training_evaluates_each_grid_and_each_code_of_a_position(run):
    figures = {}
    for row in vq_jax.read_metrics(run):
        figures |= row
    used = {name for name in figures if name.startswith("validation/usage")}
    assert len(used) == 3, sorted(figures)  # the coarse grid, and two codes a position in the fine one
    assert (run / "report.md").exists()


def test_a_trained_model_encodes_to_a_tuple_and_decodes_it(run):
    tokenizer = vq_jax.load(run)
    assert tokenizer.code_specs(16) == SPECS
    some = pictures(3, 16, 16, seed=5)
    codes = tokenizer.encode(some)
    assert [grid.shape for grid in codes] == [(3, 2, 2), (3, 4, 4, 2)]
    assert tokenizer.decode(codes).shape == some.shape
    np.testing.assert_array_equal(tokenizer.decode(codes), tokenizer.reconstruct(some))
    with pytest.raises(vq_jax.errors.UserError, match="expected"):
        tokenizer.decode(codes[0])
    with pytest.raises(vq_jax.errors.UserError, match="0 to 7"):
        tokenizer.decode((codes[0] + 8, codes[1]))


def test_files_of_codes_hold_both_grids(run, tmp_path):
    picture = tmp_path / "a.png"
    picture.write_bytes(encode_png(pictures(1, 16, 16, seed=6)[0]))
    assert call("encode", run, picture, "-o", tmp_path / "codes.npz") == 0
    assert call("decode", run, tmp_path / "codes.npz", "-o", tmp_path / "out") == 0
    assert call("reconstruct", run, picture, "-o", tmp_path / "both") == 0
    assert (tmp_path / "out" / "a.png").exists()


def test_a_model_directory_keeps_both_grids(run, tmp_path):
    tokenizer = vq_jax.load(run)
    tokenizer.save(tmp_path / "model")
    again = vq_jax.load(tmp_path / "model")
    some = pictures(2, 16, 16, seed=7)
    for kept, codes in zip(again.encode(some), tokenizer.encode(some), strict=True):
        np.testing.assert_array_equal(kept, codes)


@pytest.mark.ci
@pytest.mark.parametrize("mode", ["cache", "fly"])
def test_a_prior_learns_both_grids_and_draws_new_ones(run, tmp_path, mode):
    config = PriorConfig(
        name="two-grids-prior",
        tokenizer=str(run),
        prior=toy_grids.ToyPrior(),
        data=PriorDataConfig(batch_size=8),
        codes=CodesConfig(mode=mode),
        training=TrainingConfig(steps=2, log_every=1, eval_every=2, image_every=2, save_every=2),
    )
    workdir = tmp_path / "prior"
    assert vq_jax.fit(config, workdir).step == 2
    record = json.loads((workdir / "tokenizer.json").read_text())
    assert [spec["codebook_size"] for spec in record["specs"]] == [8, 16]
    if mode == "fly":
        return
    prior = vq_jax.load(workdir)
    codes = prior.sample_codes(4)
    assert [grid.shape for grid in codes] == [(4, 2, 2), (4, 4, 4, 2)]
    assert all(
        0 <= grid.min() and grid.max() < spec.codebook_size for grid, spec in zip(codes, SPECS, strict=True)
    )
    assert prior.sample(4, labels=[0, 1, 0, 1]).shape == (4, 16, 16, 3)
