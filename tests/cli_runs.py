"""The command line in this process, and one small trained run that the tests of it share."""

from pathlib import Path

import numpy as np
from shared import made_once

from vq_jax.cli.main import main

SMALL = (
    *("--quantizer", "ema"),
    *("--model.channels", "8"),
    *("--model.residual-channels", "4"),
    *("--model.num-res-blocks", "1"),
    *("--model.codebook-size", "16"),
    *("--model.code-dim", "4"),
    *("--data.image-size", "16"),
    *("--batch-size", "8"),
    *("--training.log-every", "2"),
    *("--training.eval-every", "4"),
    *("--training.image-every", "100"),
    *("--training.save-every", "2"),
)
STEPS = 4


def call(*arguments):
    """Exit status of `vq-jax` with these arguments."""
    try:
        return main([str(argument) for argument in arguments])
    except SystemExit as exit:
        return exit.code


def pictures(count, height, width, channels=3, seed=0):
    """Smooth random pictures uint8 [count, height, width, channels]."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (count, 3, 3, channels)).astype(np.uint8)
    rows, columns = (np.arange(size) * 3 // size for size in (height, width))
    return coarse[:, rows][:, :, columns]


def arrays_file() -> Path:
    """An .npz file that `arrays:` reads, of 40 pictures of 24 x 24."""

    def make(directory: Path) -> None:
        np.savez(directory / "pictures.npz", images=pictures(40, 24, 24))

    return made_once("pictures", make) / "pictures.npz"


def train_arguments(workdir, *more):
    """The arguments of the small run, in another directory or with other values."""
    data = f"arrays:{arrays_file()}"
    return ("train", "vqvae-photos", *SMALL, "--data", data, "--steps", STEPS, "--workdir", workdir, *more)


def trained_run() -> Path:
    """The run directory; tests that change it work on a copy."""

    def make(run: Path) -> None:
        assert call(*train_arguments(run)) == 0

    return made_once("run", make)
