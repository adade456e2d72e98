"""The READMEs hold true: their Python runs, their links lead somewhere, the commands are there."""

import re
import tomllib
from pathlib import Path

import jax
import numpy as np
import pytest

from vq_jax.cli import main
from vq_jax.configs.presets import presets
from vq_jax.configs.quantizers import QUANTIZERS

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
TEXT = README.read_text(encoding="utf-8")
PAGES = [README, ROOT / "experiments" / "README.md", ROOT / "experiments" / "benchmarks" / "README.md"]
each_page = pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
BLOCKS = [match for match in FENCE.finditer(TEXT) if match[1] == "python"]


@pytest.fixture(scope="module")
def run_block(tmp_path_factory):
    """Returns a function that runs the blocks up to a number, each once, in one namespace, and returns it."""
    namespace = {"__name__": "readme"}
    directory = tmp_path_factory.mktemp("readme")
    done = 0

    def run(number):
        nonlocal done
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(directory)
            # What a reader has, not the strict settings of the tests.
            with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
                while done <= number:
                    block = BLOCKS[done]
                    above = "\n" * TEXT.count("\n", 0, block.start(2))  # README's own line numbers
                    exec(compile(above + block[2], README, "exec"), namespace)
                    done += 1
        return namespace

    return run


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_python_block(number, run_block):
    namespace = run_block(number)
    if number == 0:  # the quantizer in a model of one's own learns, and its codes are as the text says
        losses, codes = namespace["losses"], namespace["codes"]
        assert losses[-1] < 0.8 * losses[0]
        assert codes.shape == (16, 10) and codes.dtype == np.int32
        assert len(np.unique(codes)) > 16
        assert set(namespace["variables"]) == {"params", "codebook"}


def test_there_is_python():
    assert len(BLOCKS) >= 4


def test_the_experiment_that_is_shown_can_be_trained():
    (block,) = (match[2] for match in FENCE.finditer(PAGES[1].read_text()) if match[1] == "python")
    namespace = {}
    exec(block, namespace)
    assert namespace["config"].name == "leaves" and namespace["shorter"].training.steps == 100


@each_page
def test_relative_links_pictures_and_sections_exist(page):
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    targets = re.findall(r"\]\(([^)\s]+)", text)
    local = [target for target in targets if not re.match(r"[a-z]+:", target)]
    assert local
    sections = {
        re.sub(r"[^\w\- ]", "", title).strip().lower() for title in re.findall(r"^#+ (.*)$", text, re.M)
    }
    for target in local:
        path, _, anchor = target.partition("#")
        assert (page.parent / path).exists(), target
        assert path or anchor.replace("-", " ") in sections, target


@each_page
def test_files_that_are_named_exist(page):
    text = page.read_text(encoding="utf-8")
    named = re.findall(r"`((?:[\w-]+/)*[\w-]+\.(?:py|sh|yaml|ipynb))`", text)
    folders = (page.parent, ROOT, ROOT / "vq_jax", ROOT / "experiments" / "tpu")
    assert [name for name in named if not any((folder / name).exists() for folder in folders)] == []


@pytest.mark.parametrize(
    "command",
    ['pip install -e ".[lpips]" && vq-jax train', 'pip install -e ".[test]" && pytest -n 2 --dist loadfile'],
)
def test_shell_command(command):
    lines = [line for match in FENCE.finditer(TEXT) if match[1] == "bash" for line in match[2].splitlines()]
    assert command in lines


def test_every_command_is_listed():
    listed = re.findall(r"^    vq-jax (\w+)", TEXT.split("## Commands")[1].split("\n## ")[0], re.M)
    assert set(listed) == set(main._COMMANDS)


def test_the_address_of_the_repository_is_given_once():
    """Whoever publishes the repository replaces one word."""
    assert TEXT.count("git clone") == 1
    assert "\ngit clone REPOSITORY vq_jax && cd vq_jax\n" in TEXT


def test_the_map_of_the_code_names_every_package():
    tree = TEXT.split("## The code")[1].split("\n## ")[0]
    packages = {path.name for path in (ROOT / "vq_jax").iterdir() if (path / "__init__.py").exists()}
    packages |= {"runs"}
    assert [name for name in sorted(packages) if f"\n      {name}/ " not in tree] == []


def first_cells(header):
    """The names in the first column of the table with this header."""
    (rows,) = re.findall(rf"^\| {re.escape(header)} \|.*\n\|[-|]+\n((?:\|.*\n)+)", TEXT, re.M)
    return re.findall(r"`([^`]+)`", " ".join(row.split("|")[1] for row in rows.splitlines()))


def test_every_preset_is_in_the_table():
    assert sorted(first_cells("preset")) == sorted(presets())


def test_every_quantizer_is_in_the_table():
    assert sorted(first_cells("`--quantizer`")) == sorted(QUANTIZERS)
    assert all(f"| `nn.{config.module}` |" in TEXT for config in QUANTIZERS.values())


def test_extras_that_are_named_exist():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for page in PAGES:
        named = {
            name for given in re.findall(r"\.\[([\w,]+)\]", page.read_text()) for name in given.split(",")
        }
        assert named <= extras.keys(), page
