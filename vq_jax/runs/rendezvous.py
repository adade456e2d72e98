"""The processes of a run meet at the coordinator's port before jax connects them.

jax aborts a process whose port is taken, whose number another one has, or whose others never come. Here each
of these is one message to every process, and nobody is left running.
"""

import contextlib
import errno
import json
import socket
import time
from typing import Any

from vq_jax.errors import UserError

_LINE = 4096  # bytes that a process says at most
_HELLO_SECONDS = 5.0  # in which one that connects has to say who it is
_GRACE_SECONDS = 10.0


def parse_coordinator(coordinator: str) -> tuple[str, int]:
    """Reads HOST:PORT; IPv6 hosts may stand in brackets.

    Raises:
      UserError: it is not of that form, or the port is not from 1 to 65535.
    """
    host, _, port = coordinator.rpartition(":")
    if not host or not (port.isascii() and port.isdigit()):
        raise UserError(f"expected --coordinator HOST:PORT, got {coordinator!r}")
    if not 1 <= int(port) <= 65535:
        raise UserError(f"expected a port from 1 to 65535 in --coordinator HOST:PORT, got {port}")
    return host.strip("[]"), int(port)


def meet(host: str, port: int, process_id: int, num_processes: int, timeout: float) -> None:
    """Returns once all processes are there, each of them once.

    Args:
      host: of process 0.
      port: of process 0; free again afterwards.
      process_id: of this process.
      num_processes: of the run.
      timeout: seconds to wait for the others.

    Raises:
      UserError: the port is taken, a process is missing or there twice, or they count differently.
    """
    if process_id == 0:
        _host_meeting(port, num_processes, timeout)
    else:
        _join(host, port, process_id, num_processes, timeout)


def _host_meeting(port: int, num_processes: int, timeout: float) -> None:
    end = time.monotonic() + timeout
    guests: dict[Any, socket.socket] = {}
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(_listen(port))
        fault = None
        while fault is None and len(guests) < num_processes - 1:
            guest, said = _next_guest(listener, end)
            if guest is None:
                missing = sorted(set(range(1, num_processes)) - guests.keys())
                fault = (
                    f"not all processes of the run connected within {timeout:g} s: "
                    f"{', '.join(map(str, missing[:8]))} of {num_processes} did not come; start each with "
                    "the same --coordinator and --num-processes"
                )
                break
            stack.enter_context(guest)
            if not isinstance(said, dict) or said.keys() != {"process", "of"}:
                continue  # somebody else who tries ports
            number = said["process"]
            fault = _fault(number, said["of"], num_processes, guests)
            guests[(number, "again") if number in guests else number] = guest
        for guest in guests.values():
            _tell(guest, {"fault": fault})
        if fault is not None:
            raise UserError(fault)


def _fault(number: Any, of: Any, num_processes: int, guests: dict[Any, socket.socket]) -> str | None:
    if of != num_processes:
        return (
            f"expected one --num-processes in all processes, got {num_processes} in process 0 and {of} in "
            f"process {number}"
        )
    if number in guests or number == 0:
        return f"two processes have --process-id {number}: give each one of its own, from 0"
    return None


def _listen(port: int) -> socket.socket:
    both = socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if both else socket.AF_INET
    try:
        return socket.create_server(("", port), family=family, dualstack_ipv6=both, backlog=1024)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise UserError(
                f"the port {port} of --coordinator is in use here, by another program or another process 0: "
                "choose another one"
            ) from error
        raise UserError(f"process 0 cannot listen on the port {port} of --coordinator: {error}") from error


def _next_guest(listener: socket.socket, end: float) -> tuple[socket.socket | None, Any]:
    """The next process that comes and what it says; None where none comes in time."""
    listener.settimeout(max(end - time.monotonic(), 0.001))
    try:
        guest, _ = listener.accept()
    except TimeoutError:
        return None, None
    guest.settimeout(_HELLO_SECONDS)
    return guest, _hear(guest)


def _hear(peer: socket.socket) -> Any:
    """The line of JSON that a peer says; None where it says something else or nothing."""
    said = b""
    try:
        while not said.endswith(b"\n") and len(said) < _LINE:
            piece = peer.recv(_LINE)
            if not piece:
                break
            said += piece
        return json.loads(said)
    except (OSError, ValueError, RecursionError):
        return None


def _tell(peer: socket.socket, words: dict[str, Any]) -> None:
    with contextlib.suppress(OSError):
        peer.sendall(json.dumps(words).encode() + b"\n")
        peer.recv(1)  # it closes first, so that the port is free at once


def _join(host: str, port: int, process_id: int, num_processes: int, timeout: float) -> None:
    with _connect(host, port, timeout) as peer:
        peer.settimeout(timeout + _GRACE_SECONDS)
        with contextlib.suppress(OSError):
            peer.sendall(json.dumps({"process": process_id, "of": num_processes}).encode() + b"\n")
        answer = _hear(peer)
    if not isinstance(answer, dict) or answer.keys() != {"fault"}:
        raise UserError(
            f"{host}:{port} does not take process {process_id}: the run has begun without it, process 0 "
            "ended, or another program listens there"
        )
    if answer["fault"] is not None:
        raise UserError(answer["fault"])


def _connect(host: str, port: int, timeout: float) -> socket.socket:
    end = time.monotonic() + timeout
    while True:
        try:
            return socket.create_connection((host, port), timeout=5)
        except OSError as error:
            if time.monotonic() > end:
                raise UserError(
                    f"the coordinator {host}:{port} was not reached within {timeout:g} s ({error}): start "
                    "process 0 there, and let the hosts reach its port"
                ) from error
            time.sleep(0.2)
