"""A converted model is trained further, whole with its discriminator, or its decoder alone."""

import cli_runs
import jax
import numpy as np
import pytest
from converted_models import saved

import vq_jax
from vq_jax.cli.main import main
from vq_jax.configs.discriminators import DiscriminatorConfig
from vq_jax.convert.places import given_back
from vq_jax.convert.torch_writer import torch_file
from vq_jax.convert.vqgan import discriminator_place
from vq_jax.convert.weights_file import open_weights
from vq_jax.pretrained.model_directory import open_model
from vq_jax.pretrained.restore import restore_weights

JUDGE = ("--discriminator.channels", "4", "--discriminator.num-layers", "1")
PREFIX = "loss.discriminator."


@pytest.fixture(scope="module")
def converted(tmp_path_factory):
    """The model directory of a checkpoint of taming-transformers with a discriminator."""
    folder = tmp_path_factory.mktemp("converted")
    saved("taming", folder / "first")
    file = str(folder / "their.ckpt")
    assert main(["export", str(folder / "first"), "--to", "taming", "-o", file]) == 0
    read = open_weights(file, ("state_dict",))
    tensors = {name: read.array(name) for name in read.tensors}
    network = DiscriminatorConfig(channels=4, num_layers=1).build()
    judge = jax.jit(network.init)(jax.random.key(0), np.zeros((1, 16, 16, 3), np.float32))
    tensors |= given_back(judge, lambda path, shape: discriminator_place(PREFIX, path, shape))
    (folder / "their.ckpt").write_bytes(torch_file(tensors, "state_dict"))
    place = folder / "ours"
    assert main(["convert", "taming", file, "-o", str(place), "--image-size", "16"]) == 0
    return place


@pytest.mark.ci
@pytest.mark.parametrize("parts", [(), ("--init-parts", "decoder")])
def test_training_starts_from_a_converted_model_and_its_discriminator(parts, converted, tmp_path, caplog):
    run = tmp_path / "run"
    arguments = (
        *("train", "vqgan-photos", "--init", str(converted), "--workdir", str(run), *JUDGE, *parts),
        *("--data", f"arrays:{cli_runs.arrays_file()}", "--data.image-size", "16", "--batch-size", "4"),
        *("--losses.perceptual-weight", "0", "--losses.disc-start", "0", "--losses.adversarial-start", "0"),
        *("--steps", "1", "--optimizer.warmup-steps", "0", "--discriminator.optimizer.warmup-steps", "0"),
        *("--optimizer.learning-rate", "1e-6", "--discriminator.optimizer.learning-rate", "1e-6"),
    )
    assert main([*arguments]) == 0
    assert "its discriminator too" in caplog.text
    before, after = vq_jax.load(converted), vq_jax.load(run)
    assert after.config.model == before.config.model

    def largest(one, other):
        return max(jax.tree.leaves(jax.tree.map(lambda a, b: float(np.abs(a - b).max()), one, other)))

    encoder, decoder = (
        largest(before.variables["params"][part], after.variables["params"][part])
        for part in ("encoder", "decoder")
    )
    assert 0 < decoder < 1e-4 and (encoder == 0 if parts else 0 < encoder < 1e-4)
    judge = open_model(converted).origin().tree("discriminator")["params"]
    wanted = {"discriminator/params": jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), judge)}
    _, found = restore_weights(run, after.config, wanted)
    assert 0 < largest(judge, found["discriminator/params"]) < 1e-4
