"""`vq-jax evaluate` on folders of pictures against the programs of pytorch-fid and torch-fidelity.

The pictures are written by `vq-jax`; the weights of Inception are the same random ones, in one file. There
are fewer pictures than features, so that the distance estimates nothing; but it is well-conditioned: what is
without variance add only roots of rounding errors, 1e-8 of the largest variance each, or 2e-5 for all 2048.
So a difference of 1e-3 between two programs is one of features, of moments or of the formula.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from cli_runs import call
from random_inception import random_inception, save_for_torch

from vq_jax.runs.grids import write_png

REASON = "pip install vq-jax[parity]"
pytest.importorskip("torch_fidelity", reason=REASON)
pytest.importorskip("pytorch_fid", reason=REASON)

COUNT = 14
# The operators that torchvision looks for are defined in conftest.py, as in this process.
PROGRAM = (
    "import conftest, runpy, sys; runpy.run_module(sys.argv.pop(1), run_name='__main__', alter_sys=True)"
)


def blocks(rng, side, bright):
    """A picture of squares."""
    cells = rng.integers(0, bright, (-(-48 // side), -(-40 // side), 3), np.uint8)
    return np.repeat(np.repeat(cells, side, axis=0), side, axis=1)[:48, :40]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    rng, place = np.random.default_rng(0), tmp_path_factory.mktemp("pictures")
    for name, bright in (("made", 170), ("real", 256)):
        for number in range(COUNT):
            side = (1, 2, 4, 8, 16, 24, 48)[number % 7]
            write_png(place / name / f"{number:02}.png", blocks(rng, side, bright))
    return place / "made", place / "real"


@pytest.fixture(scope="module")
def torch_home(tmp_path_factory):
    """Where PyTorch finds the file that it would download."""
    home = tmp_path_factory.mktemp("torch")
    name = "pt_inception-2015-12-05-6726825d.pth"
    save_for_torch(random_inception(), home / "hub" / "checkpoints" / name)
    return home


def weights(home):
    return next((home / "hub" / "checkpoints").iterdir())


def printed(home, module, *arguments):
    """What a program of another project writes."""
    environment = {**os.environ, "TORCH_HOME": str(home), "PYTHONPATH": str(Path(__file__).parent)}
    command = [sys.executable, "-W", "ignore", "-c", PROGRAM, module, *map(str, arguments)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def ours(folders, home, output, *more):
    made, real = folders
    against = ("--against", real, "--inception", weights(home), "-o", output)
    assert call("evaluate", made, *against, *more) == 0
    return json.loads(output.read_text())["figures"]


def test_the_distance_of_folders_is_that_of_pytorch_fids_program(folders, torch_home, tmp_path):
    text = printed(torch_home, "pytorch_fid", *folders, "--device", "cpu", "--num-workers", 0)
    theirs = float(re.search(r"FID:\s+(\S+)", text).group(1))
    found = ours(folders, torch_home, tmp_path / "f.json", "--metrics", "fd-inception", "--half-pixels")
    assert found == {"fd-inception": pytest.approx(theirs, rel=1e-3)}
    assert theirs > 0.01


def test_distances_of_folders_are_those_of_torch_fidelitys_program(folders, torch_home, tmp_path):
    sides = ("--input1", folders[0], "--input2", folders[1], "--feature-extractor-weights-path")
    sizes = ("--kid-subset-size", COUNT, "--kid-subsets", 1)
    arguments = ("--fid", "--kid", "--cpu", "--no-cache", "--silent", "--json", *sizes)
    theirs = json.loads(
        printed(torch_home, "torch_fidelity.fidelity", *sides, weights(torch_home), *arguments)
    )
    metrics = ("fd-inception", "kd-inception")
    found = ours(folders, torch_home, tmp_path / "f.json", "--metrics", *metrics)
    for name, name_there in (("fd", "frechet_inception_distance"), ("kd", "kernel_inception_distance_mean")):
        # the kernel distance is a difference of means of about one
        assert found[f"{name}-inception"] == pytest.approx(theirs[name_there], rel=1e-3, abs=1e-5)
