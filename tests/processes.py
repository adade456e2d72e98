"""Functions that run in processes of their own, copies of one that has imported the package already.

An interpreter takes seconds to import jax and everything else; a copy of one that has done so takes none. The
one that is copied has computed nothing, so that each copy finds its own devices, reads its own environment
and ends as any program does. As a program, this file is the one that is copied.
"""

import atexit
import contextlib
import functools
import importlib
import json
import os
import pkgutil
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
# Third parties that the package imports only when it needs them.
LATER = (
    "tensorboardX",
    "tensorboardX.proto.event_pb2",
    "matplotlib.figure",
    "skimage.data",
    "skimage.metrics",
)
_LOOK = 0.02  # seconds between two looks for processes that have ended


class Forked:
    """A process that calls a function; as much of `subprocess.Popen` as the tests need.

    Its exit status is that of a program which calls `sys.exit` with the function's result.
    """

    def __init__(self, function: Callable[..., Any], *arguments: Any, **environment: str) -> None:
        """Starts the process.

        Args:
          function: found by its name in its module.
          *arguments: anything that JSON can hold.
          **environment: variables beside those of this process.
        """
        self._files = Path(tempfile.mkdtemp(prefix="forked-", dir=_files()))
        self.returncode: int | None = None
        request = {
            "function": [function.__module__, function.__qualname__],
            "arguments": arguments,
            "environment": {**os.environ, **environment},
            "path": sys.path,
            "directory": os.getcwd(),
            "files": str(self._files),
        }
        server = _server()
        print(json.dumps(request), file=server.stdin, flush=True)
        self.pid = int(server.stdout.readline())

    def poll(self) -> int | None:
        """The exit status, negative for a signal; None while the process runs."""
        if self.returncode is None:
            with contextlib.suppress(FileNotFoundError):
                self.returncode = int((self._files / "status").read_text())
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Sends a signal, unless the process has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Ends the process at once."""
        self.send_signal(9)

    def communicate(self, timeout: float = 600) -> tuple[str, str]:
        """Waits for the end; what was written to stdout and to stderr."""
        end = time.monotonic() + timeout
        while self.poll() is None:
            if time.monotonic() > end:
                raise subprocess.TimeoutExpired(f"process {self.pid}", timeout)
            time.sleep(_LOOK)
        return (self._files / "stdout").read_text(), (self._files / "stderr").read_text()


def finish(processes: list[Forked], timeout: float = 600) -> list[tuple[int | None, str, str]]:
    """Waits for all; (status, stdout, stderr) each. What outlives the timeout is killed."""
    ends = []
    try:
        for process in processes:
            out, err = process.communicate(timeout=timeout)
            ends.append((process.returncode, out, err))
    finally:
        for process in processes:
            if process.poll() is None:
                process.kill()
                process.communicate()
    return ends


@functools.cache
def _files() -> str:
    directory = tempfile.TemporaryDirectory(prefix="vq_jax-forked-")
    atexit.register(directory.cleanup)
    return directory.name


@functools.cache
def _server() -> subprocess.Popen[str]:
    server = subprocess.Popen(
        [sys.executable, __file__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, sys.path)])},
    )
    atexit.register(lambda: (server.stdin.close(), server.wait()))
    return server


def _serve() -> dict[str, Any] | None:
    """Makes a copy of this process for each line of the input, and writes its number, and later its status.

    Returns:
      In a copy its request; None in this process, once nobody can ask any more.
    """
    running: dict[int, Path] = {}
    while True:
        ready, _, _ = select.select([sys.stdin], [], [], _LOOK if running else None)
        while running:
            number, status = os.waitpid(-1, os.WNOHANG)
            if number == 0:
                break
            files = running.pop(number)
            (files / "status.part").write_text(str(os.waitstatus_to_exitcode(status)))
            (files / "status.part").rename(files / "status")
        if not ready:
            continue
        line = sys.stdin.readline()
        if not line:
            return None
        request = json.loads(line)
        number = os.fork()
        if number == 0:
            return request
        running[number] = Path(request["files"])
        print(number, flush=True)


def _call(request: Mapping[str, Any]) -> Any:
    """Calls the function in its environment, its directory, its streams."""
    import jax

    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # ignored where the tests run under nohup
    before = dict(os.environ)
    os.environ.clear()
    os.environ.update(request["environment"])
    for name, value in request["environment"].items():
        if name.startswith("JAX_") and before.get(name) != value:  # read when jax was imported
            jax.config.update(name.lower(), int(value) if value.isdigit() else value)
    os.chdir(request["directory"])
    sys.path[:] = request["path"]
    for number, name in enumerate((os.devnull, "stdout", "stderr")):
        descriptor = os.open(Path(request["files"]) / name, os.O_RDWR | os.O_CREAT)
        os.dup2(descriptor, number)
        os.close(descriptor)
    module, function = request["function"]
    return getattr(importlib.import_module(module), function)(*request["arguments"])


def _import_all() -> None:
    import vq_jax

    for module in pkgutil.walk_packages(vq_jax.__path__, "vq_jax."):
        importlib.import_module(module.name)
    for name in LATER:
        importlib.import_module(name)


if __name__ == "__main__":
    _import_all()
    asked = _serve()
    sys.exit(0 if asked is None else _call(asked))
