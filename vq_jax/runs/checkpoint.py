"""Checkpoints of a run: the newest few and the best, each with a digest of its arrays.

A save is written in the background under a temporary name and becomes a checkpoint by one rename, so a
run killed at any moment leaves only whole checkpoints. The digest notices what orbax does not on restore: a
byte that changed.
"""

import contextlib
import dataclasses
import errno
import logging
import math
import os
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, TypeVar

import jax
from etils import epath

from vq_jax.errors import UserError
from vq_jax.runs import orbax_managers
from vq_jax.runs.checkpoint_record import (
    check_same_model,
    make_record,
    of_parts,
    read_record,
    some,
    state_digests,
)
from vq_jax.runs.digest import leaf_types
from vq_jax.runs.distributed import exchange, seen, wait_for_all
from vq_jax.runs.quiet import quieten_orbax

_SEEN_SECONDS = 60  # in which a file on a shared disk is seen by the others: NFS looks again after so many
_log = logging.getLogger("vq_jax")

PyTree = Any
Result = TypeVar("Result")


class CheckpointError(UserError):
    """One step's checkpoint could not be written, or does not restore.

    Attributes:
        step: the step it belongs to.
        reason: what went wrong.
    """

    def __init__(self, step: int, reason: str) -> None:
        super().__init__(f"checkpoint of step {step}: {reason}")
        self.step = step
        self.reason = reason


@dataclasses.dataclass(frozen=True)
class Restored:
    """What a checkpoint held.

    Attributes:
        step: its step.
        state: the pytree of arrays, on the shardings that were asked for; of parts, in NumPy.
        meta: the dict that was saved beside it, as JSON gives it back (tuples are lists).
    """

    step: int
    state: PyTree
    meta: dict[str, Any]


class Checkpointer:
    """Saves and restores the state of a run below one directory.

    The newest `keep` checkpoints and the one of the lowest validation loss are kept. Every process of a run
    makes a checkpointer and calls its methods in the same order; a read-only one waits for no other
    process.

        with Checkpointer("runs/photos/checkpoints") as checkpointer:
            restored = checkpointer.restore_latest(abstract_state)
            checkpointer.save(step, state, {"batches": 640}, validation_loss=0.12)

    Args:
        directory: local path or `gs://`; made if it does not exist.
        keep: how many of the newest to keep, at least 1.
        read_only: for those who only look at a run, which may still be training: nothing is made,
            cleaned up or set aside.

    Raises:
        UserError: if `keep` is below 1 or the directory cannot be made.
    """

    def __init__(self, directory: str | os.PathLike[str], *, keep: int = 2, read_only: bool = False) -> None:
        if keep < 1:
            raise UserError(f"keep: expected at least 1 checkpoint to keep, got {keep}.")
        quieten_orbax()
        path = epath.Path(directory).expanduser()
        # Orbax fails on a relative path only later, in its background thread.
        self.directory = path if path.is_absolute() else path.resolve()
        self._read_only = read_only
        self._pending: int | None = None
        self._save_failed = False
        self._losses: dict[int, float] = {}
        try:
            self._manager = (
                orbax_managers.reader(self.directory)
                if read_only
                else orbax_managers.writer(self.directory, keep, self._best_of)
            )
            # One process may fail to read what others can.
            alone = read_only or jax.process_count() == 1
            self._reader = self._manager if alone else orbax_managers.reader(self.directory)
        except OSError as error:
            raise UserError(
                f"checkpoints: cannot use the directory {self.directory}: {error}. "
                "Choose a working directory that can be written."
            ) from error
        for step in self._manager.all_steps():
            try:
                self._set_loss(step, self._record(step)["validation_loss"])
            except CheckpointError:
                continue  # restoring says so, where this step is asked for

    def save(self, step: int, state: PyTree, meta: dict[str, Any], validation_loss: float | None) -> None:
        """Starts to save; returns as soon as the arrays are on the host, so they may be donated.

        A step that is already saved is left as it is.

        Args:
            step: the step to save under.
            state: pytree of arrays of at most 32 bits an element, typed PRNG keys and `None`.
            meta: anything that JSON can hold.
            validation_loss: decides which checkpoint is the best; `None` or not a number counts
                as worse than any number.

        Raises:
            CheckpointError: if this save cannot start, or the one before it failed in the
                background; in that case this step is not saved.
        """
        if self._read_only:
            raise CheckpointError(step, f"{self.directory} was opened to read only.")
        if step in self.steps():
            return
        record = make_record(step, state, meta, validation_loss)
        self._set_loss(step, validation_loss)
        try:
            orbax_managers.start_save(self._manager, step, state, record)
        except Exception as error:
            raise self._failed_save(step, error) from error
        self._pending = step

    def restore_latest(self, abstract_state: PyTree, parts: Sequence[str] | None = None) -> Restored | None:
        """Restores the newest checkpoint that is whole.

        A checkpoint that does not restore, or whose arrays are not those that were saved, is named in a
        warning, and the one before it is tried. Once one restores, the damaged newer ones are
        renamed to `<step>.damaged`, so that their steps can be saved again. What one process of a
        run cannot read is damaged for all of them.

        Args:
            abstract_state: pytree of `jax.ShapeDtypeStruct`, with the shardings to restore to;
                without a sharding, the first device.
            parts: the places in the state that `abstract_state` holds as nested dictionaries, such as
                "generator/params": nothing else is read or compared. The whole state when absent.

        Returns:
            The restored checkpoint, or `None` where there are none.

        Raises:
            UserError: if there are checkpoints and none is whole, or if they are of another model.
        """
        damaged: list[CheckpointError] = []
        here = self.steps()
        # Over a network one process may still see the directory as it was a minute ago.
        steps = here if self._read_only else set().union(*exchange(here))
        for step in sorted(steps, reverse=True):
            try:
                restored = self._restore(step, abstract_state, parts)
            except CheckpointError as error:
                _log.warning("%s Trying the checkpoint before it.", error)
                damaged.append(error)
                continue
            self._set_aside([error.step for error in damaged])
            return restored
        if damaged:
            listing = "\n".join(f"  {error}" for error in damaged)
            raise UserError(
                f"none of the checkpoints in {self.directory} restores:\n{listing}\n"
                "Put a whole copy of one of them there, or move the directory away to start "
                "the run from its beginning."
            )
        return None

    def restore(self, step: int, abstract_state: PyTree, parts: Sequence[str] | None = None) -> Restored:
        """Restores one step and compares its arrays with the digests of what was saved.

        Args:
            step: one of `steps()`.
            abstract_state: as for `restore_latest`.
            parts: as for `restore_latest`.

        Returns:
            The restored checkpoint.

        Raises:
            UserError: if there is no such step, or it is of another model.
            CheckpointError: if it is damaged.
        """
        steps = self.steps()
        if step not in steps:
            raise UserError(f"no checkpoint of step {step} in {self.directory}; there are {steps}.")
        return self._restore(step, abstract_state, parts)

    def _restore(self, step: int, abstract_state: PyTree, parts: Sequence[str] | None) -> Restored:
        record, state = self._on_all(step, lambda: self._read(step, abstract_state, parts))
        saved, found = of_parts(record["digests"], parts), state_digests(state)

        def compare() -> None:
            changed = [name for name, digest in saved.items() if found[name] != digest]
            if changed:
                raise CheckpointError(step, f"not the bytes that were saved in {some(changed)}.")

        self._on_all(step, compare)
        return Restored(step, state, record["meta"])

    def _read(
        self, step: int, abstract_state: PyTree, parts: Sequence[str] | None
    ) -> tuple[dict[str, Any], PyTree]:
        """What this process finds: the description and its part of the arrays."""
        self._await(step)
        record = self._record(step)
        self._set_loss(step, record["validation_loss"])
        saved = of_parts(record["leaves"], parts)
        check_same_model(step, saved=saved, wanted=leaf_types(abstract_state))
        target = jax.tree.map(_with_sharding, abstract_state)
        restore = orbax_managers.restore_state if parts is None else orbax_managers.restore_part
        state = self._restore_item(step, "state", restore, target)
        # Orbax restores a PRNG key as plain numbers where its note of the type is lost.
        if leaf_types(state) != saved:
            raise CheckpointError(step, "its arrays come back with other types than were saved.")
        return record, state

    def _await(self, step: int) -> None:
        """Waits until a checkpoint that another process sees appears here."""

        def look() -> bool:
            if step not in self._manager.all_steps():
                self._manager.reload()
            return step in self._manager.all_steps()

        if not seen(look, _SEEN_SECONDS):
            raise CheckpointError(step, f"not there, in {self.directory}.")

    def _on_all(self, step: int, read: Callable[[], Result]) -> Result:
        """Reads; fails on every process if it fails on one. A read-only checkpointer has one process only."""
        if self._read_only:
            return read()
        failed: CheckpointError | None = None
        try:
            result = read()
        except CheckpointError as error:
            failed = error
        wait_for_all()  # however long one of them reads
        reasons = exchange(None if failed is None else failed.reason)
        if failed is not None:
            raise failed
        for number, reason in enumerate(reasons):
            if reason is not None:
                raise CheckpointError(step, f"in process {number}: {reason}")
        return result

    def steps(self) -> list[int]:
        """Returns the steps of the whole checkpoints, oldest first; waits for a save in progress."""
        self.wait()
        return sorted(self._manager.all_steps())

    def best_step(self) -> int | None:
        """Returns the step of the lowest validation loss, the newest where none has a loss."""
        steps = self.steps()
        return self._best_of(steps) if steps else None

    def wait(self) -> None:
        """Waits until the save in progress is a checkpoint.

        Raises:
            CheckpointError: if it failed; no trace of it is left and the earlier ones are whole.
        """
        if self._pending is None:
            return
        step, self._pending = self._pending, None
        try:
            self._manager.wait_until_finished()
        except Exception as error:
            raise self._failed_save(step, error) from error

    def close(self) -> None:
        """Waits for the save in progress and closes the directory.

        Raises:
            CheckpointError: if that save failed.
        """
        try:
            self.wait()
        finally:
            # Orbax may be late to write of a failed save, into the directory that was cleared away.
            with contextlib.suppress(*((OSError,) if self._save_failed else ())):
                self._manager.close()
            if self._reader is not self._manager:
                self._reader.close()

    def __enter__(self) -> "Checkpointer":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        try:
            self.close()
        except CheckpointError as failed:
            if error is None:
                raise
            _log.warning("%s", failed)  # what ended the run is the error to show

    def _best_of(self, steps: Sequence[int]) -> int:
        """Returns the step of the lowest loss, the newest where several or none have it."""
        return min(steps, key=lambda step: (self._losses.get(step, math.inf), -step))

    def _set_loss(self, step: int, loss: float | None) -> None:
        self._losses.pop(step, None)
        if loss is not None and not math.isnan(loss):
            self._losses[step] = float(loss)

    def _record(self, step: int) -> dict[str, Any]:
        """Reads what was saved beside the arrays, checked against its own checksum."""
        record = read_record(step, self._restore_item(step, "meta", orbax_managers.restore_meta))
        if record is None:
            raise CheckpointError(step, "its description (meta) is not what was saved.")
        if record["step"] != step:
            raise CheckpointError(
                step, f"it was saved as step {record['step']}: give its directory that name back."
            )
        return record

    def _restore_item(self, step: int, name: str, restore: Callable[..., Any], *inputs: PyTree) -> Any:
        try:
            return restore(self._reader, step, *inputs)
        except (MemoryError, PermissionError, jax.errors.JaxRuntimeError):
            raise  # a fault of this machine, not of the checkpoint
        except Exception as error:
            if "Too many open files" in str(error):  # of tensorstore, which has no errno
                raise OSError(errno.EMFILE, os.strerror(errno.EMFILE), str(self.directory)) from error
            raise CheckpointError(
                step, f"its {name} does not restore: {orbax_managers.brief(error)}"
            ) from error

    def _failed_save(self, step: int, error: Exception) -> CheckpointError:
        """Removes what a failed save left, and words the error."""
        self._save_failed = True
        self._losses.pop(step, None)
        if jax.process_index() == 0:
            orbax_managers.remove_unfinished(self.directory, step)
        # Orbax has already struck off the steps that this save would have replaced.
        if not self.directory.exists() or os.strerror(errno.ENOENT) in str(error):
            return CheckpointError(step, f"not saved: {self.directory} was removed while the run wrote it.")
        self._manager.reload()
        kept = sorted(self._manager.all_steps())
        return CheckpointError(
            step,
            f"not saved in {self.directory}: {orbax_managers.brief(error)} "
            + (f"The checkpoint of step {kept[-1]} is whole. " if kept else "")
            + "Make room there or remove the cause, then start the same command again.",
        )

    def _set_aside(self, steps: Sequence[int]) -> None:
        if self._read_only or not steps:
            return
        if jax.process_index() == 0:
            for step in steps:
                place, aside = self.directory / str(step), self.directory / f"{step}.damaged"
                if place.exists():  # another process may still see one that is gone
                    aside.rmtree(missing_ok=True)
                    place.rename(aside)
        wait_for_all()
        for step in steps:
            self._losses.pop(step, None)
        self._manager.reload()


def _with_sharding(leaf: Any) -> jax.ShapeDtypeStruct:
    sharding = getattr(leaf, "sharding", None)
    if sharding is None:
        sharding = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)
