"""Two programs measured against each other: each in a process of its own, taking turns.

A process of its own leaves each side its usual memory and threads; turns share what the machine's speed
does meanwhile between both.
"""

import contextlib
import multiprocessing
import os
import platform
import signal
import statistics
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

Make = Callable[..., Callable[[], None]]


def _serve(pipe: Connection, make: Make, arguments: tuple[Any, ...], settle: int) -> None:
    os.setpgrp()  # with the processes that it will have
    take = make(*arguments)
    for _ in range(2):  # compilation, and memory that is got once
        take()
    pipe.send(None)
    while pipe.recv():
        for _ in range(settle):
            take()
        began = time.perf_counter()
        take()
        pipe.send(time.perf_counter() - began)


def compare(
    ours: Make, other: Make, arguments: tuple[Any, ...], rounds: int, settle: int = 0
) -> dict[str, Any]:
    """Times two sides in turn; the one that waits is stopped, with all processes that it has.

    Args:
      ours: called with `arguments` in its own process; returns the function to time, which waits for its
        work to be done.
      other: alike.
      arguments: for both.
      rounds: turns of each side.
      settle: calls before the timed one of each turn, for a side that works ahead: its buffers are then as
        full as they are in a long run.

    Returns:
      Medians in seconds of both, and the median and the range of the pairs' ratios: above 1, ours is faster.
    """
    context = multiprocessing.get_context("spawn")
    pipes, processes, pairs = [], [], []
    try:
        for make in (ours, other):
            here, there = context.Pipe()
            pipes.append(here)
            # No daemon: it may have processes of its own.
            processes.append(context.Process(target=_serve, args=(there, make, arguments, settle)))
            processes[-1].start()
            there.close()
            here.recv()
            os.killpg(processes[-1].pid, signal.SIGSTOP)
        for _ in range(rounds):
            pair = []
            for pipe, process in zip(pipes, processes, strict=True):
                os.killpg(process.pid, signal.SIGCONT)
                pipe.send(True)
                pair.append(pipe.recv())
                os.killpg(process.pid, signal.SIGSTOP)
            pairs.append(pair)
    finally:
        for pipe, process in zip(pipes, processes, strict=False):
            with contextlib.suppress(OSError):
                os.killpg(process.pid, signal.SIGCONT)
                pipe.send(False)
            pipe.close()
            process.join()
    ratios = [b / a for a, b in pairs]
    return {
        "ours_seconds": statistics.median(pair[0] for pair in pairs),
        "torch_seconds": statistics.median(pair[1] for pair in pairs),
        "speedup": statistics.median(ratios),
        "speedup_range": [min(ratios), max(ratios)],
        "rounds": rounds,
    }


def machine(device: str) -> dict[str, Any]:
    """What the figures were measured with."""
    from importlib.metadata import version

    return {
        "device": device if device != "cpu" else f"{os.cpu_count()} CPU cores, {platform.machine()}",
        "python": platform.python_version(),
        "jax": version("jax"),
        "torch": version("torch"),
    }
