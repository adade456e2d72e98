"""Every quantizer of the registry in a model, in files of codes, under a prior and in a plan."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cli_runs import call, pictures
from etils import epath
from jitted import copied, drawn, init
from prior_runs import labelled_file, prior_config

import vq_jax
from vq_jax.configs import DataConfig, ExperimentConfig, Phase, ResidualVQVAE, TrainingConfig
from vq_jax.configs.quantizers import QUANTIZERS
from vq_jax.errors import UserError
from vq_jax.pretrained.build import build_model
from vq_jax.runs.grids import encode_png
from vq_jax.train.sharding import make_mesh
from vq_jax.train.tasks.base import open_task, task_class
from vq_jax.types import CodeSpec

every_quantizer = pytest.mark.parametrize("name", sorted(QUANTIZERS))
# Priors and plans see codes, not quantizers: one code a position and several are enough outside of CI.
one_and_several = pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name in ("ema", "grouped") else pytest.mark.ci)
        for name in sorted(QUANTIZERS)
    ],
)


def tokenizer_config(name, data):
    """A small tokenizer with a quantizer as it is by default."""
    model = ResidualVQVAE(channels=8, residual_channels=4, num_res_blocks=0)
    return ExperimentConfig(
        name=f"small-{name}",
        model=model.override(quantizer=name),
        data=DataConfig(source=f"arrays:{data}", image_size=16, batch_size=8),
        training=TrainingConfig(steps=4, accumulate=2),
    )


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Directories of untrained models, by the name of the quantizer."""
    made = {}

    def model(name):
        if name not in made:
            config = tokenizer_config(name, labelled_file())
            network = build_model(config)
            variables = {"codebook": {}, **drawn(network, jnp.zeros((1, 16, 16, 3)), std=0.3)}
            latents = np.zeros((1, 4, 4, config.model.quantizer.latent_channels), np.float32)
            for collection, own in init(network.quantizer, jax.random.key(0), latents).items():
                variables[collection]["quantizer"] = own
            made[name] = tmp_path_factory.mktemp("models") / name
            vq_jax.Tokenizer(network, variables, config, 0).save(made[name])
        return made[name]

    return model


@every_quantizer
def test_codes_survive_json_and_files(name, models, tmp_path):
    tokenizer = vq_jax.load(models(name))
    some = pictures(1, 16, 16, seed=3)
    codes = tokenizer.encode(some)
    again = jax.tree.map(lambda grid: np.array(json.loads(json.dumps(grid.tolist()))), codes)
    np.testing.assert_array_equal(tokenizer.decode(again), tokenizer.reconstruct(some))
    (tmp_path / "a.png").write_bytes(encode_png(some[0]))
    assert call("encode", models(name), tmp_path / "a.png", "-o", tmp_path / "codes.npz") == 0
    with np.load(tmp_path / "codes.npz") as file:
        kept = [file[key] for key in sorted(file.files) if key.startswith("codes_0")]
    for grid, found in zip(jax.tree.leaves(codes), kept, strict=True):
        np.testing.assert_array_equal(grid[0], found)
    assert call("decode", models(name), tmp_path / "codes.npz", "-o", tmp_path / "out") == 0


@pytest.mark.ci
@one_and_several
def test_a_prior_learns_the_codes(name, models, tmp_path):
    """One step, without the loop, which asks nothing of codes."""
    workdir = epath.Path(tmp_path)
    config = prior_config(kind="gpt", tokenizer=models(name), prior={"depth_layers": 1})
    if not isinstance(vq_jax.load(models(name)).code_specs(16), CodeSpec):
        with pytest.raises(UserError, match="models one grid of codes, but the tokenizer has several"):
            open_task(config, workdir).prepare(workdir)
        return
    task = open_task(config, workdir)
    task.prepare(workdir)
    with task.batches(0) as batches:
        before, batch = task.init_state(), next(batches)
        state, metrics = task.take_step(copied(before), batch, 0)
    assert int(state.step) == 1 and 0 < metrics["loss"] < np.inf
    assert not np.array_equal(before.params["embedding"], state.params["embedding"])


@one_and_several
def test_the_training_step_is_planned(name):
    config = tokenizer_config(name, labelled_file())
    lowered = task_class(config.kind).lower(config, make_mesh())
    assert "func" in lowered.as_text()


@pytest.mark.ci
@every_quantizer
def test_a_phase_fits_the_codebook_where_there_is_one(name, tmp_path):
    config = tokenizer_config(name, labelled_file())
    phases = (Phase("codebook", steps=2, kmeans_batches=2), Phase("joint"))
    if not config.model.quantizer.has_codebook:
        with pytest.raises(ValueError, match=f"the quantizer {name} has no codebook to fit"):
            dataclasses.replace(config, phases=phases)
        return
    vq_jax.fit(dataclasses.replace(config, phases=phases), tmp_path / "run")
    assert np.isfinite([row["loss"] for row in vq_jax.read_metrics(tmp_path / "run") if "loss" in row]).all()
