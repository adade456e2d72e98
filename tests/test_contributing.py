"""CONTRIBUTING.md holds true: what it adds, added in the tests as it says, passes the contract tests."""

import importlib.util
import inspect
import itertools
import re
import sys
import types
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

import vq_jax
from vq_jax.configs import quantizers as quantizer_configs

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "CONTRIBUTING.md"
TEXT = PAGE.read_text(encoding="utf-8")
FENCE = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(section):
    """The Python of one section, and the line of the page where each block starts."""
    start = TEXT.index(f"\n## {section}\n")
    end = TEXT.find("\n## ", start + 1)
    found = FENCE.finditer(TEXT, start, end if end > 0 else len(TEXT))
    return [(match[1], TEXT.count("\n", 0, match.start(1))) for match in found]


def execute(block, namespace):
    source, line = block
    exec(compile("\n" * line + source, PAGE, "exec", dont_inherit=True), namespace)
    return namespace


def new_module(name, block, monkeypatch):
    """The module that a block of the page is the whole file of."""
    assert not importlib.util.find_spec(name), f"{name} exists: CONTRIBUTING.md needs another example"
    module = types.ModuleType(name)
    monkeypatch.setitem(sys.modules, name, module)
    execute(block, vars(module))
    assert module.__doc__ and not {"dataclasses", "ClassVar"} & set(vars(module))
    return module


def contract(path):
    """The test functions of a file, with all their parameters but the name of the member."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for name, function in inspect.getmembers(module, inspect.isfunction):
        if name.startswith("test_") and "name" in inspect.signature(function).parameters:
            marks = [mark for mark in function.pytestmark if mark.args[0] != "name"]
            grids = [[(mark.args[0], value) for value in mark.args[1]] for mark in marks]
            for chosen in itertools.product(*grids):
                yield function, dict(chosen)


@pytest.fixture
def sign(monkeypatch):
    """The quantizer of the page, registered."""
    module, config = blocks("Add a quantizer")
    made = new_module("vq_jax.nn.quantizers.sign", module, monkeypatch)
    monkeypatch.setattr(vq_jax.nn, "SignQuantizer", made.SignQuantizer, raising=False)
    cls = execute(config, {**vars(quantizer_configs)})["SignQuantizerConfig"]
    assert cls.name == "sign"
    monkeypatch.setitem(quantizer_configs.QUANTIZERS, cls.name, cls)
    return cls


def test_the_quantizer_passes_the_contract(sign, getkey):
    checked = list(contract(ROOT / "tests" / "nn" / "test_quantizer_contract.py"))
    assert len(checked) >= 7
    for function, chosen in checked:
        function(name="sign", getkey=getkey, **chosen)


def test_the_quantizer_is_part_of_a_model(sign, getkey):
    model = vq_jax.create_model(
        "vqvae-residual", channels=8, residual_channels=8, num_res_blocks=1, quantizer="sign", code_dim=3
    )
    images = jax.random.uniform(getkey(), (2, 8, 8, 3), minval=-1.0)
    variables = jax.jit(model.init)(getkey(), images)
    assert set(variables) == {"params"}
    codes = model.apply(variables, images, method="encode")
    spec = model.code_specs(images.shape[1:])
    assert codes.shape == (2, *spec.array_shape) == (2, 2, 2) and spec.codebook_size == 8
    assert model.apply(variables, codes, method="decode").dtype == jnp.float32


def test_files_that_are_named_exist():
    toys = {"vq_jax/nn/quantizers/sign.py"}
    named = set(re.findall(r"`((?:[\w.-]+/)+[\w.-]*|[A-Z]+\.md|\.ci/run)`", TEXT))
    assert len(named) > 5
    assert {name for name in named if not (ROOT / name).exists()} <= toys


def test_contract_tests_that_are_named_exist():
    named = set(re.findall(r"pytest (?:-n 0 )?(tests/[\w/.]+)", TEXT))
    assert named and all((ROOT / name).exists() for name in named)
