"""Where a command will write: checked before it begins, so that nothing is overwritten or done in vain."""

import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from vq_jax.errors import UserError
from vq_jax.host.files import is_remote, require_regular

# What a run or model is made of, in its directory.
_RECORDS = ("config.json", "model.safetensors", "metrics.jsonl", "tokenizer.json", "report.md")


def check_targets(targets: Iterable[Path], inputs: Iterable[Path] = (), *, run: str | None = None) -> None:
    """Checks that files can be written, one each, and that none of them is one that the command reads.

    Args:
      targets: the files to write.
      inputs: files that the command reads.
      run: run or model directory that it reads.

    Raises:
      UserError: a target is given twice, is an input or of the run, is no file, or lies where nothing can be
        written.
    """
    places = {target: target.resolve() for target in targets}
    read = {path.resolve() for path in inputs}
    if run is not None and not is_remote(run):
        read |= {(Path(run) / name).resolve() for name in _RECORDS}
    twice = [place for place, count in Counter(places.values()).items() if count > 1]
    if twice:
        raise UserError(f"{twice[0]} would be written twice: give every picture a name of its own")
    for target, place in places.items():
        if place in read:
            raise UserError(f"{target} would overwrite a file that the command reads; choose another -o")
        try:
            require_regular(target)
        except UserError as error:
            raise UserError(f"cannot write {target}: {error}; choose another -o") from error
        _check_folder(target)


def numbered(names: Iterable[str]) -> list[str]:
    """The names, with a number where one has been before: a, b, a-1."""
    found: dict[str, None] = {}
    numbers: Counter[str] = Counter()
    for name in names:
        free = name
        while free in found:
            numbers[name] += 1
            free = f"{name}-{numbers[name]}"
        found[free] = None
    return list(found)


def _check_folder(target: Path) -> None:
    folder = next(parent for parent in target.absolute().parents if os.path.lexists(parent))
    if not folder.is_dir():
        raise UserError(f"cannot write {target}: {folder} is not a directory; choose another -o")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UserError(f"cannot write {target}: nothing may be written in {folder}; choose another -o")
