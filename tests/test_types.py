"""What a type checker knows of the package after `pip install -e`."""

import importlib.util
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCRIPT = """
import numpy as np
import vq_jax
from vq_jax import nn, train

tokenizer = vq_jax.load_tokenizer("runs/photos")
codes = tokenizer.encode(np.zeros((1, 8, 8, 3), np.uint8))
reveal_type(tokenizer)
reveal_type(vq_jax.load_prior("runs/prior").sample(4, seed=1))
result = vq_jax.fit(vq_jax.load_preset("vqvae-photos"), "runs/photos")
print(result.figures["test/psnr"], nn.VQModel, train.generator_step)
tokenizer.encod
"""


@pytest.mark.ci
@pytest.mark.skipif(importlib.util.find_spec("mypy") is None, reason="mypy is in the extra dev")
def test_an_editable_install_has_types_for_a_users_script(tmp_path):
    copy, built, user = (tmp_path / name for name in ("copy", "built", "user"))
    shutil.copytree(ROOT / "vq_jax", copy / "vq_jax")
    shutil.copytree(ROOT / "experiments", copy / "experiments", ignore=shutil.ignore_patterns("results"))
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    for folder in (built, user):
        folder.mkdir()
    build = f"from setuptools import build_meta; build_meta.build_editable({str(built)!r})"
    subprocess.run([sys.executable, "-c", build], cwd=copy, check=True, capture_output=True)
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as files:
        (name,) = [name for name in files.namelist() if name.endswith(".pth")]
        folders = files.read(name).decode().split()  # folders alone are what type checkers understand
    assert [Path(folder) for folder in folders] == [copy]
    (user / "script.py").write_text(SCRIPT)
    command = [
        sys.executable,
        "-m",
        "mypy",
        "--ignore-missing-imports",
        "--follow-imports=silent",
        "script.py",
    ]
    environment = {**os.environ, "MYPYPATH": folders[0]}
    found = subprocess.run(command, cwd=user, env=environment, capture_output=True, text=True)
    notes = [line.partition(": ")[2] for line in found.stdout.splitlines()]
    assert notes[0] == 'note: Revealed type is "vq_jax.pretrained.tokenizer.Tokenizer"', found.stdout
    assert notes[1].startswith('note: Revealed type is "numpy.ndarray')
    assert notes[2].startswith('error: "Tokenizer" has no attribute "encod"') and len(notes) == 4
