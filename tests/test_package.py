import importlib
import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

import vq_jax

ROOT = Path(__file__).parents[1]


def python(code, *, cwd, path):
    """Runs code in another process and returns what it printed."""
    done = subprocess.run(
        [sys.executable, "-W", "error::DeprecationWarning:vq_jax", "-c", code],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, path))},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    "name", ["vq_jax", *(f"vq_jax.{part}" for part in ("data", "evaluate", "nn", "ops", "train"))]
)
def test_every_public_name_is_there(name):
    module = importlib.import_module(name)
    assert len(set(module.__all__)) == len(module.__all__) > 0
    assert all(getattr(module, public) is not None for public in module.__all__)
    assert set(module.__all__) <= set(dir(module))
    with pytest.raises(AttributeError, match="nothing_of_that_name"):
        _ = module.nothing_of_that_name


@pytest.mark.parametrize(
    "code, absent",
    [
        ("import vq_jax", "jax flax optax grain tensorflow_datasets orbax PIL skimage matplotlib"),
        (
            "from vq_jax.cli.main import main; main(['--help']); main(['--version'])",
            "jax flax optax grain orbax PIL skimage",
        ),
        # What an import brings stays: the last one shows it for those before it too.
        (
            "import vq_jax; vq_jax.nn; vq_jax.ops; from vq_jax.train import generator_step",
            "grain tensorflow_datasets orbax PIL skimage",
        ),
    ],
)
def test_what_is_not_needed_is_not_imported(code, absent, tmp_path):
    report = f"{code}\nimport sys; print('imported', sorted(set({absent.split()!r}) & set(sys.modules)))"
    assert python(report, cwd=tmp_path, path=[ROOT]).splitlines()[-1] == "imported []"


def test_importing_changes_no_setting_of_jax(tmp_path):
    code = (
        "import jax; before = dict(jax.config.values); import vq_jax; vq_jax.nn; vq_jax.train; vq_jax.load; "
    )
    code += "print(before == dict(jax.config.values))"
    assert python(code, cwd=tmp_path, path=[ROOT]).strip() == "True"


def test_every_package_directory_is_listed():
    listed = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    found = {".".join(path.parent.relative_to(ROOT).parts) for path in (ROOT / "vq_jax").rglob("__init__.py")}
    holding = {".".join(path.parent.relative_to(ROOT).parts) for path in (ROOT / "vq_jax").rglob("*.py")}
    assert found == holding == listed - {"vq_jax._experiments"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """A wheel of this tree, built from a copy: building leaves files behind."""
    base = tmp_path_factory.mktemp("wheel")
    ignore = shutil.ignore_patterns("__pycache__", "*.egg-info", "results")
    for name in ("vq_jax", "experiments"):
        shutil.copytree(ROOT / name, base / "source" / name, ignore=ignore)
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, base / "source")
    build = ["wheel", "--no-deps", "--no-build-isolation", "--no-index", "-w", base, base / "source"]
    subprocess.run([sys.executable, "-m", "pip", "-q", *map(str, build)], check=True, timeout=120)
    return next(base.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """A directory that the wheel is installed to."""
    target = tmp_path_factory.mktemp("installed")
    install = ["install", "--no-deps", "--no-index", "--target", target, wheel]
    subprocess.run([sys.executable, "-m", "pip", "-q", *map(str, install)], check=True, timeout=120)
    return target


@pytest.mark.ci
def test_the_wheel_holds_presets_data_and_licences(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names} == {"vq_jax", f"vq_jax-{vq_jax.__version__}.dist-info"}
    assert {
        "vq_jax/py.typed",
        "vq_jax/data/fashion_mnist_10k.npz",
        "vq_jax/data/LICENSE.fashion-mnist",
    } <= set(names)
    licences = [name for name in names if "/licenses/" in name]
    assert {Path(name).name for name in licences} == {"LICENSE", "LICENSE.fashion-mnist"}
    carried = {Path(name).stem for name in names if name.startswith("vq_jax/_experiments/")}
    assert carried == {path.stem for path in (ROOT / "experiments").glob("*.py")}
    assert not any("benchmark" in name or "tests" in name for name in names)


@pytest.mark.ci
def test_the_installed_program_finds_its_presets(installed, tmp_path):
    code = """
from vq_jax.configs.presets import load_preset, presets
print(*presets())
print({str(path.parent) for path in presets().values()})
assert all(load_preset(name).name == name for name in presets())
"""
    names, folder = python(code, cwd=tmp_path, path=[installed]).splitlines()
    assert names.split() == sorted(
        path.stem.replace("_", "-") for path in (ROOT / "experiments").glob("*.py")
    )
    assert folder == str({str(installed / "vq_jax" / "_experiments")})


@pytest.mark.ci
def test_an_installed_model_trains_inside_a_module_of_ones_own(installed, tmp_path):
    code = """
import flax.linen as nn, jax, jax.numpy as jnp, optax
import vq_jax
print(vq_jax.__file__)

class Classifier(nn.Module):
    def setup(self):
        self.tokenizer = vq_jax.create_model(
            "vqvae-residual", channels=8, num_res_blocks=0, codebook_size=16, code_dim=4
        )
        self.head = nn.Dense(10)

    def __call__(self, images, train=False):
        out = self.tokenizer(images, train=train)
        return self.head(out.latents.mean((1, 2))), out

model, images = Classifier(), jax.random.uniform(jax.random.key(0), (4, 8, 8, 3), minval=-1.0)
labels = jnp.arange(4)
variables = model.init(jax.random.key(1), images)
optimizer = optax.adam(1e-2)

@jax.jit
def step(params, codebook, state):
    def loss(params):
        (logits, out), updates = model.apply(
            {"params": params, "codebook": codebook}, images, train=True, mutable=["codebook"]
        )
        entropy = optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
        return entropy + out.loss + jnp.mean((out.reconstruction - images) ** 2), updates
    (value, updates), grads = jax.value_and_grad(loss, has_aux=True)(params)
    changes, state = optimizer.update(grads, state)
    return optax.apply_updates(params, changes), updates["codebook"], state, value

params, codebook, state = variables["params"], variables["codebook"], optimizer.init(variables["params"])
before, values = codebook, []
for _ in range(5):
    params, codebook, state, value = step(params, codebook, state)
    values.append(float(value))
assert values[-1] < values[0], values
assert jax.tree.structure(before) == jax.tree.structure(codebook)
assert any(bool((a != b).any()) for a, b in zip(jax.tree.leaves(before), jax.tree.leaves(codebook)))
"""
    assert python(code, cwd=tmp_path, path=[installed]).startswith(str(installed))
