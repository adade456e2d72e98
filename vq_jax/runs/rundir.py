"""The run directory: which run is in it, and what may change when that run resumes."""

import contextlib
import json
import logging
import os
from collections.abc import Iterator
from typing import Any

from etils import epath

from vq_jax.configs.runs import RunConfig
from vq_jax.configs.serialize import differences, fixed_differences, from_dict, to_dict
from vq_jax.errors import UserError
from vq_jax.host.files import is_remote, is_temporary, read_json, require_regular, write_atomic
from vq_jax.host.storage import require_storage
from vq_jax.runs.lock import LOCK_FILE, locked

CONFIG_FILE = "config.json"
METRICS_FILE = "metrics.jsonl"
CHECKPOINTS = "checkpoints"
IMAGES = "images"
REPORT = "report.md"
PROFILE = "profile"
_LISTED = 6  # differing fields that a message names

_log = logging.getLogger("vq_jax")


def read_config(run: epath.PathLike) -> RunConfig:
    """Reads the configuration of a run directory.

    Raises:
      UserError: it is not a run directory, or its configuration cannot be read.
    """
    path = epath.Path(require_storage(run, "a run")) / CONFIG_FILE
    if not path.exists():
        raise UserError(
            f"{run} is not a run directory: it has no {CONFIG_FILE}. Give a directory that "
            "`vq-jax train` wrote, such as runs/vqvae-photos"
        )
    try:
        return from_dict(read_json(path))
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise UserError(f"{path} cannot be read as a configuration: {error}") from error


def is_run(place: epath.PathLike) -> bool:
    """Whether a place holds a run, with checkpoints, rather than a model."""
    return (epath.Path(place) / CHECKPOINTS).is_dir()


def has_checkpoint(workdir: epath.PathLike) -> bool:
    """Whether the run in a directory has a checkpoint, whole or not, to resume from."""
    directory = epath.Path(workdir) / CHECKPOINTS
    # A damaged checkpoint is set aside as N.damaged; an unfinished save is N.orbax-checkpoint-tmp.
    entries = directory.iterdir() if directory.is_dir() else ()
    return any(entry.name.removesuffix(".damaged").isdigit() for entry in entries)


def _newest_step(workdir: epath.Path) -> int:
    """The step of the newest checkpoint, whole or not; 0 where there is none."""
    directory = workdir / CHECKPOINTS
    entries = directory.iterdir() if directory.is_dir() else ()
    return max((int(entry.name) for entry in entries if entry.name.isdecimal()), default=0)


@contextlib.contextmanager
def claim(workdir: epath.Path, config: RunConfig) -> Iterator[None]:
    """Makes the run directory, or checks that the run in it is this one.

    While the block runs, no other process claims it, see `lock.locked`. A run without a checkpoint has
    nothing to lose: another configuration takes its place; that of a run with one is not written yet, see
    `write_config`.

    Raises:
      UserError: another process trains in it; it holds another run, with the fields that differ; it holds
        something else; or it cannot be written.
    """
    require_storage(workdir)
    _check_free(workdir, config)
    missing = [directory for directory in (workdir, *workdir.parents) if not directory.exists()]
    with contextlib.ExitStack() as stack:
        try:
            workdir.mkdir(parents=True, exist_ok=True)
            stack.enter_context(locked(workdir))
            _check_free(workdir, config)  # another process may have made it in the meantime
            if not has_checkpoint(workdir):
                write_config(workdir, config)
        except OSError as error:
            for directory in missing:  # a run that does not start leaves nothing
                with contextlib.suppress(OSError):
                    directory.rmdir()
            raise UserError(
                f"cannot write the run directory {workdir}: {error.strerror or error}; "
                "give another one with --workdir"
            ) from error
        yield


def require_inside(workdir: epath.Path) -> None:
    """Checks that nothing that a run writes in its directory leads out of it.

    Raises:
      UserError: one of its files or directories is a symbolic link to somewhere else.
    """
    if is_remote(workdir):
        return
    home = os.path.realpath(workdir)
    for name in (CONFIG_FILE, METRICS_FILE, CHECKPOINTS, IMAGES, REPORT, PROFILE, "codes"):
        target = os.path.realpath(os.path.join(home, name))
        if os.path.commonpath([home, target]) != home:
            raise UserError(
                f"{workdir}: {name} is a link out of the run directory, to {target}: put what it leads to in "
                "its place, or link the whole run directory"
            )


def write_config(workdir: epath.Path, config: RunConfig) -> None:
    """Writes the configuration of a run: of one that resumes, once it is known to be of the same data."""
    write_atomic(workdir / CONFIG_FILE, json.dumps(to_dict(config), indent=2) + "\n")


def _check_free(workdir: epath.Path, config: RunConfig) -> None:
    require_inside(workdir)
    if (workdir / CONFIG_FILE).exists():
        _check_same_run(workdir, read_config(workdir), config, begun=has_checkpoint(workdir))
    elif workdir.exists() and not (workdir.is_dir() and all(map(_is_left_over, workdir.iterdir()))):
        raise UserError(f"{workdir} exists and holds no run: give an empty or new directory with --workdir")


def _is_left_over(entry: epath.Path) -> bool:
    return entry.name == LOCK_FILE or is_temporary(entry.name)


def _check_same_run(workdir: epath.Path, old: RunConfig, new: RunConfig, begun: bool) -> None:
    if old.kind != new.kind:
        raise UserError(
            f"{workdir} holds a run of another kind, {old.kind}: {old.name}; give another --workdir"
        )
    changed, forbidden = differences(old, new), fixed_differences(old, new, across="resume")
    if forbidden and not begun:
        _log.info("The run in %s has no checkpoint: it starts with the new configuration.", workdir)
        return
    if forbidden:
        listed = [f"{name}: {was!r} there, {now!r} requested" for name, (was, now) in forbidden.items()]
        more = f"; and {len(listed) - _LISTED} more" if len(listed) > _LISTED else ""
        raise UserError(
            f"{workdir} holds a run of another configuration; these fields differ:\n"
            f"  {'; '.join(listed[:_LISTED])}{more}\n"
            "Give the same values to resume it, or another --workdir"
        )
    taken = _newest_step(workdir)
    if "training.steps" in changed and new.training.steps < taken:
        raise UserError(
            f"the run in {workdir} has taken {taken} steps, and training.steps = {new.training.steps} is "
            "fewer: give at least as many, or another --workdir"
        )
    for option in {"training.init", "training.inflate"} & changed.keys() if has_checkpoint(workdir) else ():
        _log.warning(
            "The run in %s started from %s and resumes: --%s has no effect.",
            workdir,
            old.training.init or old.training.inflate or "random weights",
            option.rpartition(".")[2],
        )
    if "tokenizer" in changed and has_checkpoint(workdir):
        _log.warning("The run in %s keeps its tokenizer: another --tokenizer has no effect.", workdir)
    if "training.steps" in changed and new.optimizer.schedule != "constant":
        was, now = changed["training.steps"]
        _log.warning(
            "The %s schedule spans the run: one extended from %s to %s steps differs "
            "from one planned for %s.",
            new.optimizer.schedule,
            was,
            now,
            now,
        )


def report_title(name: str, step: int) -> str:
    """The first line of a report: the run, and the step that it is of."""
    return f"# {name}, {step} steps"


def is_reported(workdir: epath.Path, step: int) -> bool:
    """Whether report.md is there, and of this step."""
    path = workdir / REPORT
    try:
        require_regular(path)
        first = path.read_bytes().partition(b"\n")[0]
    except (UserError, FileNotFoundError):  # writing it says what is in its place
        return False
    return first.endswith(report_title("", step).removeprefix("# ").encode())


def cut_metrics(workdir: epath.Path, step: int) -> None:
    """Removes the rows of metrics.jsonl past `step`, and a torn last line."""
    path = workdir / METRICS_FILE
    if not path.exists():
        return
    rows, content = read_metrics(workdir), path.read_bytes()
    if lost := max(content.count(b"\n") - len(rows), 0):
        _log.warning("%s: %d lines are not figures of a run and are left out.", path, lost)
    kept = "".join(json.dumps(row) + "\n" for row in rows if row["step"] <= step)
    if kept.encode() != content:
        write_atomic(path, kept)  # whole at any moment: these figures are nowhere else


def read_metrics(workdir: epath.PathLike) -> list[dict[str, Any]]:
    """Reads the figures of a run.

    Args:
      workdir: its directory.

    Returns:
      The rows of metrics.jsonl, oldest first, without a torn one, and without lines that no run wrote; an
      empty list where there are none.

    Raises:
      UserError: there is something that is no file.
    """
    path = epath.Path(workdir) / METRICS_FILE
    require_regular(path)
    lines = path.read_bytes().splitlines() if path.exists() else []
    return [row for row in map(_row, lines) if row is not None]


def _row(line: bytes) -> dict[str, Any] | None:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None  # torn: a run was killed, or is writing
    if not (isinstance(row, dict) and type(row.get("step")) is int):
        return None
    return {name: value for name, value in row.items() if isinstance(value, int | float | str)}
