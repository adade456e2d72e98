"""Every quantizer of the registry learns on photographs, and uses its codes."""

import contextlib
import os
import subprocess
import sys

import numpy as np
import pytest

import vq_jax
from vq_jax.configs import DataConfig, ExperimentConfig, ResidualVQVAE, TrainingConfig
from vq_jax.configs.quantizers import QUANTIZERS
from vq_jax.runs.rundir import read_metrics

# About 1,024 codes a position, or a stage; and what keeps codes in use where a quantizer has it.
FIELDS = {
    "codebook_size": 1024,
    "bits": 10,
    "levels": (8, 5, 5, 5),
    "code_dim": 32,
    "projection_dim": 8,
    "revive_threshold": 0.02,
}


# One device, and programs as they are for users: 300 steps take longer than it takes to optimise them.
ALONE = {"JAX_NUM_CPU_DEVICES": "1", "XLA_FLAGS": ""}


@pytest.fixture(scope="module")
def fit():
    """Trains a configuration by its name into a directory; all in one other process, with these settings."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, __file__], env={**os.environ, **ALONE}, **pipes) as process:

        def trained(name, run):
            print(name, run, sep="\t", file=process.stdin, flush=True)
            assert process.stdout.readline() == f"{name}\n", "the process has ended; see its standard error"

        yield trained
        process.stdin.close()


def config_of(name):
    model = ResidualVQVAE(channels=32, residual_channels=16, num_res_blocks=1).override(quantizer=name)
    known = model.quantizer.names()
    return ExperimentConfig(
        name=f"ten-bits-{name.replace('_', '-')}",
        model=model.override(**{field: value for field, value in FIELDS.items() if field in known}),
        data=DataConfig(source="photos", image_size=32, batch_size=16),
        training=TrainingConfig(steps=300, log_every=10, eval_every=300, image_every=300, save_every=300),
    )


@pytest.mark.ci
@pytest.mark.parametrize("name", sorted(QUANTIZERS))
def test_300_steps_on_photographs_lower_the_error_and_use_half_the_codes(name, fit, tmp_path):
    fit(name, tmp_path / "run")
    rows = read_metrics(tmp_path / "run")
    first, last = (np.mean([row["reconstruction_loss"] for row in part]) for part in (rows[:3], rows[-3:]))
    assert last < first
    usages = {figure: value for figure, value in rows[-1].items() if figure.startswith("window/usage")}
    assert usages and np.mean(list(usages.values())) > 0.5, usages


if __name__ == "__main__":
    for line in sys.stdin:
        name, run = line.rstrip("\n").split("\t")
        with contextlib.redirect_stdout(sys.stderr):
            vq_jax.fit(config_of(name), run)
        print(name, flush=True)
