"""Several processes as one run: how they find each other, agree and stop. The engine is jax.distributed.

All functions here also work in a run of one process.
"""

import json
import logging
import os
import signal
import time
import uuid
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import numpy as np
from etils import epath
from jax.experimental import multihost_utils

from vq_jax.configs.runs import RunConfig
from vq_jax.configs.serialize import fixed_differences, from_dict, to_dict
from vq_jax.errors import UserError
from vq_jax.host import interruption
from vq_jax.runs.orbax_managers import wait_for_processes
from vq_jax.runs.rendezvous import meet, parse_coordinator
from vq_jax.runs.signals import StopRequest

HEARTBEAT_SECONDS = 20
"""A process that gives no sign of life for so long counts as dead, and the others end."""
_SHUTDOWN_SECONDS = 20
_DAY_MS = 24 * 60 * 60 * 1000
_SEEN_SECONDS = 10  # in which a file on a shared disk is seen by the others
_log = logging.getLogger("vq_jax")
Result = TypeVar("Result")


def start(
    coordinator: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
    *,
    timeout: int = 120,
) -> None:
    """Joins the other processes of the run; must be called before anything is computed.

    Args:
      coordinator: HOST:PORT of process 0. Without these three arguments jax asks the cluster: a TPU pod,
        SLURM, or another kind that it knows.
      num_processes: how many processes there are.
      process_id: which of them this is, from 0.
      timeout: seconds to wait for the others.

    Raises:
      UserError: some of the arguments are missing or wrong, or the others cannot be reached in time.
    """
    given = {"--coordinator": coordinator, "--num-processes": num_processes, "--process-id": process_id}
    missing = [name for name, value in given.items() if value is None]
    if 0 < len(missing) < len(given):
        raise UserError(
            f"expected --coordinator, --num-processes and --process-id together, without "
            f"{' and '.join(missing)} the processes cannot find each other"
        )
    if coordinator is not None and num_processes is not None and process_id is not None:
        host, port = parse_coordinator(coordinator)
        if not 0 <= process_id < num_processes:
            raise UserError(
                f"expected --process-id from 0 to {num_processes - 1}, for --num-processes {num_processes}; "
                f"got {process_id}"
            )
        meet(host, port, process_id, num_processes, timeout)
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    try:
        jax.distributed.initialize(
            coordinator,
            num_processes,
            process_id,
            initialization_timeout=timeout,
            heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
            shutdown_timeout_seconds=_SHUTDOWN_SECONDS,
        )
    except ValueError as error:
        raise UserError(
            "--distributed found no TPU pod, SLURM or other cluster that jax knows: give --coordinator "
            f"HOST:PORT, --num-processes N and --process-id I ({error})"
        ) from error
    except jax.errors.JaxRuntimeError as error:
        raise UserError(
            f"not all processes of the run connected within {timeout} s: start each with the same "
            f"--coordinator and --num-processes ({str(error).splitlines()[0]})"
        ) from error


def is_main() -> bool:
    """Whether this process writes the logs, pictures and reports."""
    return jax.process_index() == 0


def wait_for_all() -> None:
    """Returns once every process of the run has called it, however long one of them takes."""
    wait_for_processes("vq_jax:all", _DAY_MS)


def exchange(value: Any) -> list[Any]:
    """Returns the values of all processes, in their order; anything that JSON can hold."""
    if jax.process_count() == 1:
        return [value]
    text = np.frombuffer(json.dumps(value).encode(), np.uint8)
    lengths = multihost_utils.process_allgather(np.array([text.size], np.int32)).ravel()
    padded = np.zeros(lengths.max(), np.uint8)
    padded[: text.size] = text
    rows = multihost_utils.process_allgather(padded).reshape(len(lengths), -1)
    return [json.loads(bytes(row[:length])) for row, length in zip(rows, lengths, strict=True)]


def together(action: Callable[[], Result]) -> Result:
    """Calls a function on every process; a UserError on one of them is raised on all.

    The function itself waits for no other process.

    Raises:
      UserError: the function raised it here or on another process.
    """
    failed: UserError | None = None
    try:
        result = action()
    except UserError as error:
        failed = error
    wait_for_all()
    words = exchange(None if failed is None else str(failed))
    if failed is not None:
        raise failed
    for number, text in enumerate(words):
        if text is not None:
            raise UserError(f"process {number}: {text}")
    return result


def check_same(config: RunConfig, data: str) -> None:
    """Compares configuration and data of all processes.

    Args:
      config: of the run.
      data: its fingerprint.

    Raises:
      UserError: they differ, with the fields that do.
    """
    given = exchange({"config": to_dict(config), "data": data, "jax": jax.__version__})
    first = given[0]
    for number, other in enumerate(given):
        if first["config"]["kind"] != other["config"]["kind"]:
            raise UserError(f"processes 0 and {number} train different kinds of models")
        changed = fixed_differences(
            from_dict(first["config"]), from_dict(other["config"]), across="processes"
        )
        lines = [
            f"  {name}: {there!r} in process 0, {here!r} in process {number}"
            for name, (there, here) in changed.items()
        ]
        if other["jax"] != first["jax"]:
            lines.append(f"  jax: {first['jax']} in process 0, {other['jax']} in process {number}")
        if not lines and other["data"] != first["data"]:
            lines.append(f"  the training data of process {number} are not those of process 0")
        if lines:
            listing = "\n".join(lines)
            raise UserError(
                f"the processes of the run differ:\n{listing}\nStart all of them with the same command"
            )


def check_shared(directory: epath.Path) -> None:
    """Checks that all processes see the same directory: process 0 writes a file, the others look for it.

    Raises:
      UserError: some processes do not, with their numbers.
    """
    if jax.process_count() == 1:
        return
    (name, *_) = exchange(f".{uuid.uuid4().hex}")
    path = directory / name
    together(lambda: path.write_text("") if is_main() else None)
    try:
        there = seen(path.exists)
        apart = [number for number, found in enumerate(exchange(there)) if not found]
    finally:
        if is_main():
            path.unlink(missing_ok=True)
    if apart:
        raise UserError(
            f"expected a --workdir that all processes see, such as gs://BUCKET/RUN or a shared disk; in "
            f"{directory} processes {', '.join(map(str, apart))} do not find what process 0 writes"
        )


def seen(look: Callable[[], Result], seconds: float | None = None) -> Result | None:
    """Looks for what another process wrote, for as long as a shared disk may take to show it.

    Args:
      look: called again until its result is true.
      seconds: how long; when absent 10 s, and in a run of one process a single look.

    Returns:
      The first true result; None if there is none.
    """
    if seconds is None:
        seconds = _SEEN_SECONDS if jax.process_count() > 1 else 0
    end = time.monotonic() + seconds
    while not (found := look()):
        if time.monotonic() >= end:
            return None
        time.sleep(0.1)
    return found


class AgreedStop(StopRequest):
    """A request to stop that all processes see before the same step.

    jax's own preemption service handles SIGTERM: the processes agree on a step that none of them has passed.
    The other signals are passed on as SIGTERM.
    """

    _noted: int | None = None

    def interrupt(self) -> None:
        """Nothing: jax keeps SIGTERM to itself, and process 0 alone cannot end."""

    def _handle(self) -> dict[int, Any]:
        return interruption.handle(self._note, (signal.SIGINT, signal.SIGHUP))

    def reached(self, step: int) -> bool:
        """Whether to stop before the update after `step` others."""
        if multihost_utils.reached_preemption_sync_point(step):
            self.signal = self._noted or signal.SIGTERM
            return True
        return False

    def _note(self, number: int, frame: Any) -> None:
        if self._noted:
            interruption.stop(number)
        # `signal` is what all have agreed on: after the last step nothing is left to agree on.
        self._noted = number
        os.kill(os.getpid(), signal.SIGTERM)


def stop_request() -> StopRequest:
    """The kind of request to stop that fits the number of processes."""
    return StopRequest() if jax.process_count() == 1 else AgreedStop()
