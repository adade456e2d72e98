"""What cannot be trained is refused from shapes alone, before anything is written."""

import dataclasses
import json

import jax
import pytest
from etils import epath
from jax.sharding import PartitionSpec
from runs import small_config

from vq_jax.configs import MLPVQVAE, DiscriminatorConfig, Losses, ResidualQuantizerConfig, ResidualVQVAE
from vq_jax.configs.serialize import to_dict
from vq_jax.errors import UserError
from vq_jax.host.memory import total_memory
from vq_jax.pretrained.build import build_model
from vq_jax.runs import rundir
from vq_jax.train import jit, sharding
from vq_jax.train.tasks import check
from vq_jax.train.tasks.base import open_task
from vq_jax.train.tasks.tokenizer import abstract_inputs, abstract_state


def changed(config, part, **fields):
    return dataclasses.replace(config, **{part: dataclasses.replace(getattr(config, part), **fields)})


def adversarial(size, kind):
    config = changed(small_config(), "data", image_size=size)
    losses, discriminator = Losses(adversarial_weight=1.0), DiscriminatorConfig(kind=kind)
    return dataclasses.replace(config, losses=losses, discriminator=discriminator)


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda: adversarial(8, "patch"), "spatial axes of at least 24 pixels"),
        (lambda: adversarial(12, "stylegan"), "a side of 4, 8, 16, ... or 1024 pixels"),
        (lambda: adversarial((16, 32), "stylegan"), "expected square pictures"),
        (
            lambda: changed(small_config(), "data", batch_size=2**24, image_size=1024),
            "of memory and this machine",
        ),
        (lambda: changed(small_config(), "model", channels=2**20), "of memory and this machine"),
    ],
)
def test_a_run_that_cannot_work_is_refused_and_leaves_nothing(make, words, tmp_path):
    with pytest.raises(UserError) as caught:
        open_task(make(), epath.Path(tmp_path / "run"))
    assert words in str(caught.value) and len(str(caught.value).splitlines()) <= 3
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "model, part",
    [
        (ResidualVQVAE(num_res_blocks=30), "encoder"),
        (MLPVQVAE(image_size=(16, 16), image_channels=3, hidden_features=(4,) * 50), "encoder"),
        (ResidualVQVAE(quantizer=ResidualQuantizerConfig(num_stages=60)), "quantizer"),
    ],
)
def test_networks_with_too_many_layers_are_refused_at_the_first_of_them(model, part, monkeypatch):
    monkeypatch.setattr(check, "MOST_LAYERS", 40)
    config = dataclasses.replace(small_config(), model=model)
    with pytest.raises(UserError, match=f"more than 40 layers, the last of them in {part}, and each takes"):
        abstract_state(config, build_model(config))


def test_an_error_of_a_library_is_one_line():
    with pytest.raises(
        UserError, match="cannot be trained: TypeError: dot_general requires.*; change the sizes"
    ):
        with check.judging():
            raise TypeError("dot_general requires contracting dimensions to have the same shape\nmore\nmore")


def test_the_judged_step_is_not_traced_again(monkeypatch):
    # Of no other test: an equal step would have been traced already, see programs.py.
    config, traced = small_config(ema_decay=0.87), []
    original = jit.generator_step
    monkeypatch.setattr(
        jit, "generator_step", lambda *args, **kws: traced.append(1) or original(*args, **kws)
    )
    task = open_task(config, epath.Path("never-made"))
    assert traced == [1]
    task._step_function(config.phases[0], 0).lower(task.abstract_state(), *abstract_inputs(config, task.mesh))
    assert traced == [1]


def test_memory_is_counted_over_the_devices_that_share_it():
    mesh = sharding.make_mesh()
    share = total_memory() // mesh.size
    for spec, fits in ((PartitionSpec(), share), (PartitionSpec("data"), share * mesh.size)):
        placed = jax.sharding.NamedSharding(mesh, spec)
        small, large = (
            jax.ShapeDtypeStruct((mesh.size, count // mesh.size), "uint8", sharding=placed)
            for count in (fits // 2, fits * 2)
        )
        check.check_memory(mesh, small)
        with pytest.raises(UserError, match=r"needs at least .* GiB of memory and this machine has .* GiB"):
            check.check_memory(mesh, {"state": [large]})


def test_a_run_without_a_checkpoint_takes_another_configuration(tmp_path, caplog):
    caplog.set_level("INFO", "vq_jax")
    run, config = epath.Path(tmp_path / "run"), small_config()
    other = changed(config, "data", batch_size=4)
    with rundir.claim(run, config):
        pass
    (run / "checkpoints/4.orbax-checkpoint-tmp").mkdir(parents=True)
    with rundir.claim(run, other):
        pass
    assert json.loads((run / "config.json").read_text()) == json.loads(json.dumps(to_dict(other)))
    assert "has no checkpoint: it starts with the new configuration" in caplog.text
    (run / "checkpoints/4").mkdir()
    with pytest.raises(UserError, match="data.batch_size: 4 there, 8 requested") as caught:
        with rundir.claim(run, config):
            pass
    assert len(str(caught.value).splitlines()) == 3
    assert rundir.read_config(run) == other
