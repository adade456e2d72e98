"""A pytest plugin that adds what CONTRIBUTING.md adds, so that the contract tests can run over it."""

import dataclasses
import importlib.util
import re
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "CONTRIBUTING.md"
TEXT = PAGE.read_text(encoding="utf-8")
FENCE = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclasses.dataclass(frozen=True)
class Block:
    """Python of the page, and the number of lines above it."""

    source: str
    above: int

    def execute(self, namespace: dict[str, Any]) -> dict[str, Any]:
        """Runs the block with the page's own line numbers, and returns the namespace."""
        exec(compile("\n" * self.above + self.source, PAGE, "exec", dont_inherit=True), namespace)
        return namespace

    def as_module(self, name: str) -> types.ModuleType:
        """Makes the module that the block is the file of."""
        if importlib.util.find_spec(name):
            raise ValueError(f"{name} exists: CONTRIBUTING.md needs another example")
        module = sys.modules[name] = types.ModuleType(name)
        self.execute(vars(module))
        return module

    def as_entries(self, namespace: dict[str, Any]) -> dict[str, Any]:
        """Makes the entries of a dictionary that the block is a line of."""
        return eval(compile("{" + self.source.strip() + "}", PAGE, "eval"), dict(namespace))


def blocks(section: str) -> Iterator[Block]:
    """The Python of one section of the page, block by block."""
    start = TEXT.index(f"\n## {section}\n")
    end = TEXT.find("\n## ", start + 1)
    for match in FENCE.finditer(TEXT, start, end if end > 0 else len(TEXT)):
        yield Block(match[1], TEXT.count("\n", 0, match.start(1)))


def add_quantizer() -> None:
    """Follows the section on quantizers."""
    from vq_jax import nn
    from vq_jax.configs import quantizers

    module, config = blocks("Add a quantizer")
    nn.SignQuantizer = module.as_module("vq_jax.nn.quantizers.sign").SignQuantizer
    cls = config.execute(dict(vars(quantizers)))["SignQuantizerConfig"]
    quantizers.QUANTIZERS[cls.name] = cls


def add_prior() -> None:
    """Follows the section on priors."""
    from vq_jax import nn
    from vq_jax.configs import priors

    module, sampler, line, config = blocks("Add a prior")
    nn.IndependentPrior = module.as_module("vq_jax.nn.priors.independent").IndependentPrior
    drawing = sampler.as_module("vq_jax.generate.independent")
    from vq_jax.generate import samplers

    samplers.SAMPLERS.update(line.as_entries({**vars(samplers), **vars(drawing)}))
    cls = config.execute(dict(vars(priors)))["IndependentArchitecture"]
    priors.PRIORS[cls.architecture] = cls


def add_source() -> None:
    """Follows the section on sources, but for the row of its contract test."""
    from vq_jax.data import open as registry

    module, line, _ = blocks("Add a source of pictures")
    module.as_module("vq_jax.data.checkers")
    registry.SCHEMES.update(line.as_entries(vars(registry)))


def add_metric() -> None:
    """Follows the section on metrics."""
    from vq_jax.evaluate import evaluators

    module, line = blocks("Add a metric")
    measured = module.as_module("vq_jax.evaluate.sharpness")
    evaluators.EVALUATORS.update(line.as_entries(vars(measured)))


def add_command() -> None:
    """Follows the section on commands."""
    from vq_jax.cli import main

    module, line = blocks("Add a command")
    module.as_module("vq_jax.cli.usage")
    main._COMMANDS.update(line.as_entries({}))


def add_format() -> None:
    """Follows the section on formats, but for the row of its contract test."""
    from vq_jax.convert import formats

    module, _ = blocks("Add a format")
    kind = module.as_module("vq_jax.convert.latent_diffusion").LatentDiffusion()
    formats.FORMATS[kind.name] = kind


def add_all() -> None:
    """Follows every section."""
    add_quantizer()
    add_prior()
    add_source()
    add_metric()
    add_command()
    add_format()


def pytest_sessionstart() -> None:
    """Adds all of it before tests are collected, after the checks of types and shapes are switched on."""
    add_all()
    import converted_models

    _, row = blocks("Add a format")
    converted_models.MODELS.update(row.as_entries(vars(converted_models)))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Adds the row of the source to the table of its contract test."""
    _, _, row = blocks("Add a source of pictures")
    for module in {item.module for item in items if hasattr(item.module, "ROWS")}:
        module.ROWS.update(row.as_entries({}))
