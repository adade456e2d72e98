"""Orbax's checkpoint managers as a run uses them, and what orbax does not do by itself.

The only module that imports orbax. A directory has one manager that writes, shared by all processes, and
one in each process that reads without waiting for another.
"""

import errno
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from etils import epath
from orbax.checkpoint.checkpoint_managers import (
    AnyPreservationPolicy,
    LatestN,
    PreservationContext,
)

from vq_jax.runs.quiet import TENSORSTORE

PyTree = Any


def writer(
    directory: epath.Path, keep: int, best_of: Callable[[Sequence[int]], int]
) -> ocp.CheckpointManager:
    """Returns a manager that saves in the background.

    Args:
        directory: absolute; made if it does not exist.
        keep: how many of the newest to keep.
        best_of: says which of some steps is kept whatever its age.

    Raises:
        OSError: the directory cannot be made or read.
    """
    return ocp.CheckpointManager(
        directory,
        handler_registry=_handlers(),
        options=ocp.CheckpointManagerOptions(
            preservation_policy=AnyPreservationPolicy([LatestN(keep), _Best(best_of)]),
            async_options=ocp.AsyncOptions(
                barrier_sync_fn=_wait_for_others,
                post_finalization_callback=lambda: at_point("before-rename"),
            ),
            cleanup_tmp_directories=True,
        ),
    )


def reader(directory: epath.Path) -> ocp.CheckpointManager:
    """Returns a manager that changes nothing and waits for no other process."""
    alone = {}
    if jax.process_count() > 1:
        here = jax.process_index()
        alone["multiprocessing_options"] = ocp.options.MultiprocessingOptions(
            primary_host=here, active_processes={here}, barrier_sync_key_prefix=f"vq_jax-reader-{here}"
        )
    options = ocp.CheckpointManagerOptions(read_only=True, create=False, **alone)
    return ocp.CheckpointManager(directory, handler_registry=_handlers(), options=options)


def start_save(manager: ocp.CheckpointManager, step: int, state: PyTree, meta: dict[str, Any]) -> None:
    """Copies the arrays to the host and starts to write them, with what JSON can hold beside them."""
    at_point("before-save")
    manager.save(
        step,
        args=ocp.args.Composite(state=ocp.args.StandardSave(state), meta=ocp.args.JsonSave(meta)),
        force=True,  # without it a step below the newest is silently not saved
    )


def restore_state(manager: ocp.CheckpointManager, step: int, abstract_state: PyTree) -> PyTree:
    """Returns the arrays of one step, on the shardings asked for; raises nearly every kind of error."""
    return _restore(manager, step, "state", ocp.args.StandardRestore(abstract_state))


def restore_part(manager: ocp.CheckpointManager, step: int, abstract_part: PyTree) -> PyTree:
    """Returns some of the arrays of one step, in NumPy, and reads no others; raises nearly every error.

    Args:
        manager: of the directory.
        step: one of its steps.
        abstract_part: the part of the saved state to read, as nested dictionaries of ShapeDtypeStruct.
    """
    restore_args = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), abstract_part)
    args = ocp.args.PyTreeRestore(item=abstract_part, restore_args=restore_args, partial_restore=True)
    return _restore(manager, step, "state", args)


def restore_meta(manager: ocp.CheckpointManager, step: int) -> Any:
    """Returns what was saved beside the arrays; raises nearly every kind of error."""
    return _restore(manager, step, "meta", ocp.args.JsonRestore())


def remove_unfinished(directory: epath.Path, step: int) -> None:
    """Removes what a failed save left; the start of the next run removes what stays."""
    for _ in range(5):
        try:
            (directory / f"{step}{ocp.utils.TMP_DIR_SUFFIX}").rmtree(missing_ok=True)
            return
        except OSError:
            time.sleep(0.1)  # other files of the save may still be arriving


def brief(error: Exception) -> str:
    """Returns the kind of an error and the first line of its message; of a refusal of the disk, its words."""
    for number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO):
        words = os.strerror(number)
        if words in str(error):  # tensorstore wraps them in its own
            limit = " (see ulimit -f)" if number == errno.EFBIG else ""
            return f"{words[0].lower()}{words[1:]}{limit}."
    lines = str(error).partition(TENSORSTORE)[0].strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0]}."


def wait_for_processes(key: str, timeout_ms: int) -> None:
    """Returns once every process has called it, by jax's service for processes.

    Collectives of the devices have limits of their own, 30 s on CPU.
    """
    ocp.multihost.get_barrier_sync_fn()(key=key, timeout_ms=timeout_ms)


def at_point(point: str) -> None:
    """Does nothing: tests replace it by what kills the process or fills the disk there.

    Args:
        point: "before-save" (nothing written), "during-save" (arrays written, no index of them)
            or "before-rename" (all written, under the temporary name). The last two are reached
            in a background thread.
    """


class _Best:
    """Preserves the checkpoint that its owner says is the best.

    Orbax's `BestN` forgets the losses when a run is started again, unless they are also written to
    a file of orbax's that carries no checksum and that, damaged, keeps the directory from opening.
    """

    def __init__(self, best_of: Callable[[Sequence[int]], int]) -> None:
        self._best_of = best_of

    def should_preserve(self, checkpoints: Sequence[Any], *, context: PreservationContext) -> Sequence[bool]:
        best = self._best_of([info.step for info in checkpoints])
        return [info.step == best for info in checkpoints]


class _StateHandler(ocp.StandardCheckpointHandler):
    """Orbax's own, with a named point where the arrays are written and their index is not."""

    def finalize(self, directory: epath.Path) -> None:
        at_point("during-save")
        super().finalize(directory)

    @classmethod
    def typestr(cls) -> str:
        """Returns the name of orbax's handler, so that orbax alone can read the checkpoint."""
        return ocp.StandardCheckpointHandler.typestr()


def _handlers() -> ocp.handlers.DefaultCheckpointHandlerRegistry:
    registry = ocp.handlers.DefaultCheckpointHandlerRegistry()
    state, meta = _StateHandler(), ocp.JsonCheckpointHandler()
    registry.add("state", ocp.args.StandardSave, state)
    registry.add("state", ocp.args.StandardRestore, state)
    registry.add("state", ocp.args.PyTreeRestore, ocp.PyTreeCheckpointHandler())
    registry.add("meta", ocp.args.JsonSave, meta)
    registry.add("meta", ocp.args.JsonRestore, meta)
    return registry


def _restore(manager: ocp.CheckpointManager, step: int, name: str, args: ocp.args.CheckpointArgs) -> Any:
    return manager.restore(step, args=ocp.args.Composite(**{name: args}))[name]


def _wait_for_others(*, key: str, timeout_ms: int) -> None:
    """Orbax's own barrier, except in its background thread while a failed save unwinds.

    There orbax would wait 20 minutes for processes that wait for this one. The error ends this process
    instead, and its end ends the others.
    """
    error = sys.exc_info()[1]
    if error is not None and threading.current_thread() is not threading.main_thread():
        raise error
    wait_for_processes(key, timeout_ms)
