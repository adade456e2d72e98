"""A run small enough for tests, one that is killed, and what must be equal of two runs."""

import json
import os
import re
import signal
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from cli_runs import arrays_file
from shared import made_once

from vq_jax.configs import (
    DataConfig,
    ExperimentConfig,
    OptimizerConfig,
    ResidualVQVAE,
    TrainingConfig,
    VectorQuantizerEMAConfig,
)
from vq_jax.train import jit, train

STEPS = 12


def small_config(**training):
    """A run of seconds, on small pictures."""
    return ExperimentConfig(
        name="small",
        model=ResidualVQVAE(
            channels=8,
            residual_channels=4,
            num_res_blocks=1,
            quantizer=VectorQuantizerEMAConfig(codebook_size=16, code_dim=4, revive_threshold=0.5),
        ),
        data=DataConfig(source=f"arrays:{arrays_file()}", image_size=16, batch_size=8, crops_per_picture=4),
        optimizer=OptimizerConfig(learning_rate=1e-3),
        training=TrainingConfig(
            **{
                "steps": STEPS,
                "log_every": 1,
                "eval_every": 4,
                "image_every": 100,
                "save_every": 4,
                "ema_decay": 0.9,
                **training,
            }
        ),
    )


def finished_run():
    """The directory of an uninterrupted run of `small_config`; tests that change it work on a copy."""

    def make(workdir):
        result = train(small_config(image_every=6), workdir)
        assert result.step == STEPS and result.signal is None

    return made_once("finished", make)


def poison(monkeypatch, metric, value, step):
    """Gives a metric of the training step of a tokenizer this value, from a step on."""
    make = jit.jit_train_step

    def jit_train_step(*arguments, **keywords):
        take = make(*arguments, **keywords)

        def poisoned(state, *inputs):
            state, metrics = take(state, *inputs)
            bad = int(state.generator.step) >= step
            return state, {**metrics, metric: jnp.float32(value)} if bad else metrics

        poisoned.eval_shape = take.eval_shape
        return poisoned

    monkeypatch.setattr(jit, "jit_train_step", jit_train_step)


def shared_memory():
    """Names of the memory shared with other processes that this one holds now."""
    return set(re.findall(r"/dev/shm/(psm_\w+)", Path("/proc/self/maps").read_text()))


def rows_of(workdir):
    """Rows of metrics.jsonl without the timings."""
    lines = (Path(workdir) / "metrics.jsonl").read_text().splitlines()
    return [
        {name: value for name, value in json.loads(line).items() if not name.startswith("time/")}
        for line in lines
    ]


def state_of(workdir, config):
    """Every array of the newest checkpoint, by name."""
    from vq_jax.pretrained.build import build_model
    from vq_jax.runs.checkpoint import Checkpointer
    from vq_jax.runs.digest import leaf_names
    from vq_jax.train.tasks.tokenizer import abstract_state

    with Checkpointer(Path(workdir) / "checkpoints", read_only=True) as checkpointer:
        restored = checkpointer.restore_latest(abstract_state(config, build_model(config)))
    return restored.step, {name: np.asarray(leaf) for name, leaf in leaf_names(restored.state).items()}


def train_until_killed(workdir, point):
    """Trains until it is killed at this point of the second save."""
    from vq_jax.runs import orbax_managers

    reached = []

    def at_point(name):
        if name == point:
            reached.append(name)
            if len(reached) == 2:
                os.kill(os.getpid(), signal.SIGKILL)

    orbax_managers.at_point = at_point
    train(small_config(), workdir)
