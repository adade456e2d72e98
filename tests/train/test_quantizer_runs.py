"""Every quantizer of the registry in a model, in files of codes, under a prior and in a plan."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cli_runs import call, pictures
from prior_runs import labelled_file, prior_config

import vq_jax
from vq_jax.configs import DataConfig, ExperimentConfig, ResidualVQVAE, TrainingConfig
from vq_jax.configs.quantizers import QUANTIZERS
from vq_jax.pretrained.build import build_model
from vq_jax.runs.grids import encode_png
from vq_jax.train.sharding import make_mesh
from vq_jax.train.tasks.base import task_class

every_quantizer = pytest.mark.parametrize("name", sorted(QUANTIZERS))


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
            variables = jax.jit(network.init)(jax.random.key(0), jnp.zeros((1, 16, 16, 3)))
            made[name] = tmp_path_factory.mktemp("models") / name
            vq_jax.Tokenizer(network, {"codebook": {}, **variables}, config, 0).save(made[name])
        return made[name]

    return model


@every_quantizer
def test_codes_survive_json_and_files(name, models, tmp_path):
    tokenizer = vq_jax.load(models(name))
    some = pictures(2, 16, 16, seed=3)
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


@every_quantizer
def test_a_prior_learns_the_codes(name, models, tmp_path):
    config = prior_config(kind="gpt", tokenizer=models(name), steps=1, eval_every=1, save_every=1)
    result = vq_jax.fit(config, tmp_path / "prior")
    assert result.step == 1 and result.figures["validation/bits_per_code"] > 0


@every_quantizer
def test_the_training_step_is_planned(name):
    config = tokenizer_config(name, labelled_file())
    lowered = task_class(config.kind).lower(config, make_mesh())
    assert "func" in lowered.as_text()
