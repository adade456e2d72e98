"""Loading a run: the weights to evaluate with, and nothing that only training needs."""

import json
import shutil

import jax
import numpy as np
import optax
import pytest
from made import write_run

import vq_jax
from vq_jax.configs import DiscriminatorConfig
from vq_jax.errors import UserError
from vq_jax.runs import checkpoint_record, orbax_managers


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def states(base):
    return write_run(base / "run")


@pytest.fixture
def run(base, states, tmp_path):
    return shutil.copytree(base / "run", tmp_path / "run")


def assert_evaluates_with(tokenizer, state, name):
    wanted = {"params": getattr(state.generator, name), "codebook": state.generator.codebook}
    assert jax.tree.structure(tokenizer.variables) == jax.tree.structure(wanted)
    for found, leaf in zip(jax.tree.leaves(tokenizer.variables), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_array_equal(found, leaf)


def test_the_running_average_and_the_codebook_are_loaded(run, states):
    assert_evaluates_with(vq_jax.load(run), states[2], "ema_params")
    assert_evaluates_with(vq_jax.load(run, best=True), states[2], "ema_params")


def test_a_run_without_a_running_average_gives_its_parameters(tmp_path):
    states = write_run(tmp_path / "run", (1,), ema_decay=0.0)
    assert_evaluates_with(vq_jax.load(tmp_path / "run"), states[1], "params")


def test_no_optimizer_no_discriminator_and_no_whole_state(run, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("loading built what only training needs")

    for name in ("adam", "adamw", "chain", "clip_by_global_norm", "inject_hyperparams", "sgd"):
        monkeypatch.setattr(optax, name, refuse)
    monkeypatch.setattr(DiscriminatorConfig, "build", refuse)
    monkeypatch.setattr(orbax_managers, "restore_state", refuse)
    restored = []
    part = orbax_managers.restore_part
    monkeypatch.setattr(orbax_managers, "restore_part", lambda *a: restored.append(a[2]) or part(*a))
    assert vq_jax.load(run).step == 2
    (target,) = restored
    assert set(target) == {"generator"} and set(target["generator"]) == {"ema_params", "codebook"}


def change_digests(run, part):
    """Makes step 2 hold other bytes in a part than were saved, as far as its description goes."""
    path = run / "checkpoints" / "2" / "meta" / "metadata"
    record = json.loads(path.read_text())
    names = [name for name in record["body"]["digests"] if part in name]
    assert names
    for name in names:
        record["body"]["digests"][name][0] ^= 1
    record["sha256"] = checkpoint_record.body_digest(record["body"])
    path.write_text(json.dumps(record))


@pytest.mark.parametrize(
    "part, step",
    [
        (".generator.opt_state", 2),
        (".generator.params", 2),
        (".discriminator.", 2),
        (".generator.ema_params", 1),
        (".generator.codebook", 1),
    ],
)
def test_only_damage_to_what_is_loaded_counts(part, step, run, states, caplog):
    change_digests(run, part)
    tokenizer = vq_jax.load(run)
    assert tokenizer.step == step
    assert_evaluates_with(tokenizer, states[step], "ema_params")
    assert ("Trying the checkpoint before it" in caplog.text) == (step == 1)


def test_where_every_checkpoint_is_damaged_the_error_says_so(run):
    for step in ("1", "2"):
        (run / "checkpoints" / step / "state" / "manifest.ocdbt").unlink()
    with pytest.raises(UserError, match="none of the checkpoints"):
        vq_jax.load(run)
