"""CONTRIBUTING.md holds true: what it adds, added as it says, passes the contract tests."""

import os
import re
import subprocess
import sys

import pytest
from contributing_toys import ROOT, TEXT, blocks

# Of each section: the contract test that it names, what selects the new member, and how many tests that has.
CONTRACTS = {
    "Add a quantizer": ("tests/nn/test_quantizer_contract.py", "sign", 9),
    "Add a prior": ("tests/generate/test_prior_contract.py", "independent", 5),
    "Add a source of pictures": ("tests/data/test_open.py", "checkers", 9),
    "Add a metric": ("tests/evaluate/test_evaluation.py", "sharpness", 1),
    "Add a format": ("tests/convert/test_formats.py", "latent-diffusion", 1),
}
SECTIONS = (*CONTRACTS, "Add a command")
NEW_FILES = {
    "vq_jax/nn/quantizers/sign.py",
    "vq_jax/nn/priors/independent.py",
    "vq_jax/generate/independent.py",
    "vq_jax/data/checkers.py",
    "vq_jax/evaluate/sharpness.py",
    "vq_jax/cli/usage.py",
    "vq_jax/convert/latent_diffusion.py",
}


def section(title):
    return TEXT.split(f"\n## {title}\n")[1].split("\n## ")[0]


def run(code, *arguments):
    """Runs Python in a process whose libraries have what the page adds."""
    paths = (ROOT, ROOT / "tests", os.environ.get("PYTHONPATH", ""))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths))}
    command = [sys.executable, *code, *arguments]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=540)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def report():
    """What pytest says of the contract tests of all that the page adds."""
    files = [path for path, _, _ in CONTRACTS.values()]
    names = " or ".join(name for _, name, _ in CONTRACTS.values())
    return run(("-m", "pytest"), "-p", "contributing_toys", "-n", "0", "-rA", "-k", names, *files)


@pytest.mark.ci
@pytest.mark.parametrize("title", CONTRACTS)
def test_what_a_section_adds_passes_the_contract_test_that_it_names(title, report):
    path, name, count = CONTRACTS[title]
    assert f"pytest {path} -k {name}`" in section(title)
    passed = re.findall(rf"^PASSED {re.escape(path)}::\S*\[.*\b{name}\b.*\]$", report, re.MULTILINE)
    assert len(passed) >= count


COMMANDS = """
import contributing_toys
contributing_toys.add_all()
import sys
import jax, numpy as np
from PIL import Image
from vq_jax import Tokenizer
from vq_jax.cli.main import main
from vq_jax.cli.train import parse

place, *arguments = sys.argv[1:]
config = parse(arguments).config
print("model", config.model.quantizer.describe(), config.data.source)
model = config.model.build()
variables = jax.jit(model.init)(jax.random.key(0), np.zeros((1, 28, 28, 1), np.float32))
Tokenizer(model, dict(variables), config, 1).save(f"{place}/model")
noise = np.random.default_rng(0).integers(0, 256, (28, 28), np.uint8)
Image.fromarray(noise).save(f"{place}/picture.png")
assert main(["--help"]) == 0
assert main(["usage", f"{place}/model", f"{place}/picture.png"]) == 0
assert main(["usage", f"{place}/model", f"{place}/nothing.png"]) == 2
"""


@pytest.mark.ci
def test_the_program_has_all_that_the_page_adds(tmp_path):
    small = ("--model.channels", "8", "--model.residual-channels", "4", "--model.num-res-blocks", "1")
    chosen = ("--quantizer", "sign", "--model.quantizer.code-dim", "6", "--data", "checkers:100")
    printed = run(("-c", COMMANDS), str(tmp_path), "vqvae-fashion", *small, *chosen)
    assert "model 64 codes, 6 bits, sign checkers:100\n" in printed
    assert re.search(r"^  usage +Show how many different codes a tokenizer uses for pictures", printed, re.M)
    assert re.search(r"picture\.png: \d+ different codes\n", printed)


def test_files_that_are_named_exist():
    named = set(re.findall(r"`((?:[\w.-]+/)+[\w.-]*|[A-Z]+\.md|\.ci/run)`", TEXT))
    assert len(named) > 5
    assert {name for name in named if not (ROOT / name).exists()} == NEW_FILES


@pytest.mark.parametrize("title", SECTIONS)
def test_a_section_is_short(title):
    """About half a page beside its code."""
    prose = re.sub(r"```python.*?```", "", section(title), flags=re.DOTALL)
    assert len(prose.splitlines()) < 30 and sum(1 for _ in blocks(title)) >= 2
