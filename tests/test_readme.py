"""What README.md shows works: its Python runs, its links lead somewhere, its commands are there."""

import re
from pathlib import Path

import jax
import pytest

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
TEXT = README.read_text(encoding="utf-8")
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
BLOCKS = [match for match in FENCE.finditer(TEXT) if match[1] == "python"]


@pytest.fixture(scope="module")
def run_block(tmp_path_factory):
    """Returns a function that runs the blocks up to a number, each once, in one namespace."""
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

    return run


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_python_block(number, run_block):
    run_block(number)


def test_there_is_python():
    assert BLOCKS


def test_relative_links_and_pictures_exist():
    targets = re.findall(r"\]\(([^)\s]+)", FENCE.sub("", TEXT))
    local = [target for target in targets if not re.match(r"[a-z]+:|#", target)]
    assert local
    assert [target for target in local if not (ROOT / target.partition("#")[0]).exists()] == []


@pytest.mark.parametrize(
    "command",
    ['pip install -e ".[lpips]" && vq-jax train', 'pip install -e ".[test]" && pytest -n 2 --dist loadfile'],
)
def test_shell_command(command):
    lines = [line for match in FENCE.finditer(TEXT) if match[1] == "bash" for line in match[2].splitlines()]
    assert command in lines
