"""Programs of jax: they run in a process without vq_jax."""

import os
import subprocess
import sys

import numpy as np
import pytest
from converted_models import saved

import vq_jax
from vq_jax.cli.main import main
from vq_jax.convert import portable

PROGRAM = """
import sys
sys.modules["vq_jax"] = None  # an import of it raises
import jax, numpy as np, safetensors.numpy
weights = safetensors.numpy.load_file("model.safetensors")
encode = jax.export.deserialize(open("encode.jax", "rb").read())
decode = jax.export.deserialize(open("decode.jax", "rb").read())
for name in ("one", "three"):
    codes = encode.call(weights, np.load(f"{name}.npy"))
    np.savez(f"{name}.npz", codes=codes, pictures=decode.call(weights, codes))
try:
    import vq_jax.ops
except ImportError:
    print("alone")
"""


@pytest.mark.ci
@pytest.mark.parametrize("name", ["taming", "open-magvit2"])
def test_programs_run_where_vq_jax_cannot_be_imported(name, tmp_path):
    pytest.importorskip("flatbuffers", reason="pip install vq-jax[portable]")
    saved(name, tmp_path / "model")
    folder = tmp_path / "programs"
    assert main(["export", str(tmp_path / "model"), "--to", "jax", "-o", str(folder)]) == 0
    rng = np.random.default_rng(0)
    given = {name: rng.integers(0, 256, shape, np.uint8) for name, shape in _SHAPES.items()}
    for file, pictures in given.items():
        np.save(folder / f"{file}.npy", pictures)
    environment = {key: value for key, value in os.environ.items() if key != "XLA_FLAGS"}
    command = [sys.executable, "-c", PROGRAM]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "alone\n"
    tokenizer = vq_jax.load(tmp_path / "model")
    for file, pictures in given.items():
        found = np.load(folder / f"{file}.npz")
        assert np.array_equal(found["codes"], tokenizer.encode(pictures))
        decoded = tokenizer.decode(found["codes"]).astype(int)
        assert np.abs(found["pictures"].astype(int) - decoded).max() <= 1


_SHAPES = {"one": (1, 32, 32, 3), "three": (3, 16, 24, 3)}


def test_the_missing_package_is_named(tmp_path, monkeypatch, capsys):
    saved("taming", tmp_path / "model")
    monkeypatch.setattr(portable.importlib.util, "find_spec", lambda name: None)
    assert main(["export", str(tmp_path / "model"), "--to", "jax", "-o", str(tmp_path / "x")]) == 2
    assert 'pip install "vq-jax[portable]"' in capsys.readouterr().err
    assert not (tmp_path / "x").exists()
