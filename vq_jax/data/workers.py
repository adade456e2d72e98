"""The processes that read pictures: whether they can start, how they begin, and why one ended."""

import multiprocessing
import os
import re
import signal
import sys
import threading

from vq_jax.errors import UserError
from vq_jax.host.interruption import SIGNALS

_ADVICE = (
    "a script that trains with data.num_workers above 0 has to be a file, and to do its work below "
    '`if __name__ == "__main__":`; data.num_workers 0 reads in threads'
)
_SECONDS = 300.0  # that a process may take to start, with all that the main script imports


def end_if_unguarded() -> None:
    """Ends a process that was started to help another one and runs that one's main script again.

    It does so where the script is not guarded, and would train as the first process does, in its directory.
    """
    # By this multiprocessing itself knows that it must not start a process.
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        sys.exit(1)


def require_start() -> None:
    """Starts a process that does nothing, as a worker is started, and waits for its end.

    A worker that dies while it starts, as it does where a script is not guarded, never reads what it is sent,
    and whoever sends it would wait for ever.

    Raises:
      UserError: workers cannot start.
    """
    end_if_unguarded()
    main = sys.modules["__main__"]
    file = getattr(main, "__file__", None)
    if getattr(main, "__spec__", None) is None and file is not None and not os.path.exists(file):
        raise UserError(f"workers cannot start from {os.path.basename(file)}: {_ADVICE}")
    probe = multiprocessing.get_context("spawn").Process(target=int, name="probe", daemon=True)
    # It inherits what is blocked: a signal to all processes is for the run alone.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        probe.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    probe.join(_SECONDS)
    if probe.is_alive():
        probe.kill()
        raise UserError(f"a worker has not started after {_SECONDS:.0f} s: {_ADVICE}")
    if probe.exitcode != 0:
        raise UserError(f"workers cannot start, one ended with status {probe.exitcode}: {_ADVICE}")


def begin(index: int, count: int) -> None:
    """Lets only the process that started a worker end it, and ends it when that process is gone.

    Signals that reach all processes of a program, by Ctrl-C, a closed terminal or the host's shutdown, would
    otherwise take the workers away from a run that still has to save. grain's workers outlive a main process
    that was killed.
    """
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    main = multiprocessing.parent_process()
    assert main is not None, "called in a worker"

    def end_with_it() -> None:
        main.join()
        os._exit(1)

    threading.Thread(target=end_with_it, name="end-with-main", daemon=True).start()


def explained(error: RuntimeError) -> RuntimeError | UserError:
    """Returns the error that says what to do about a worker's end, for grain's; any other error as it is."""
    found = re.search(r"terminated unexpectedly with exit code (-?\d+)", str(error))
    if found is None:
        return error
    status = int(found[1])
    reasons = {
        -signal.SIGBUS: "there is no room in /dev/shm: give a container more with --shm-size",
        -signal.SIGKILL: "it was killed, perhaps for want of memory: lower data.num_workers",
    }
    reason = reasons.get(status, "the lines above may say why")
    return UserError(f"a worker that reads pictures ended with status {status}: {reason}")
