"""A long run of a small VQ-GAN, watched: memory, compilations, hidden transfers, waiting for data.

First a run as `vq-jax train` makes it, with evaluations, pictures and saves, for some minutes from its first
save on, of which the first, or a quarter where there are few, is its warm-up. In its steps
every implicit transfer between host and device is an error (jax.transfer_guard). At its end the process must
be as large as after its warm-up, within 5 %; the training step must have been compiled once, and after the
warm-up nothing at all. Then a run on a folder of JPEG files, made into pictures of 256 px by worker
processes, whose step sleeps for 0.3 s instead of computing: under 5 % of its time may be waiting for data.

Run:   python experiments/benchmarks/soak.py --minutes 10 --output soak.json
"""

from vq_jax.host.memory import keep_freed_memory

if __name__ == "__main__":
    keep_freed_memory()  # as the program does, before jax is imported

import argparse  # noqa: E402
import contextlib  # noqa: E402
import ctypes  # noqa: E402
import json  # noqa: E402
import os  # noqa: E402
import platform  # noqa: E402
import signal  # noqa: E402
import statistics  # noqa: E402
import sys  # noqa: E402
import tempfile  # noqa: E402
import threading  # noqa: E402
import time  # noqa: E402
from collections.abc import Callable, Iterator  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402
from unittest import mock  # noqa: E402

import input_pipeline  # noqa: E402
import jax  # noqa: E402
import numpy as np  # noqa: E402

from vq_jax.configs import (
    DataConfig,
    DiscriminatorConfig,
    ExperimentConfig,
    Losses,
    OptimizerConfig,
    ResidualVQVAE,
    TrainingConfig,
    VectorQuantizerEMAConfig,
)
from vq_jax.runs.rundir import read_metrics  # noqa: E402
from vq_jax.train import jit, loop, prefetch, sharding  # noqa: E402
from vq_jax.train.tasks.tokenizer import TokenizerTask  # noqa: E402

GROWTH, WAIT = 0.05, 0.05
SLEEP_SECONDS, SLEEP_STEPS = 0.3, 100
_COMPILED = "/jax/core/compile/backend_compile_duration"


def configuration(data: DataConfig, training: TrainingConfig) -> ExperimentConfig:
    """A VQ-GAN whose step takes a few hundredths of a second."""
    return ExperimentConfig(
        name="soak",
        model=ResidualVQVAE(
            channels=16,
            residual_channels=8,
            num_res_blocks=1,
            quantizer=VectorQuantizerEMAConfig(codebook_size=64, code_dim=8),
        ),
        data=data,
        losses=Losses(reconstruction="l1", adversarial_weight=0.4, adversarial_ramp=100),
        optimizer=OptimizerConfig(learning_rate=1e-4, b1=0.5),
        discriminator=DiscriminatorConfig(channels=8, num_layers=2),
        training=training,
    )


def resident_mib() -> float:
    """Resident memory of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


class _Mallinfo2(ctypes.Structure):  # of glibc's malloc.h
    _fields_ = [
        (name, ctypes.c_size_t)
        for name in "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost".split()
    ]


def allocated_mib() -> float | None:
    """What the program has asked glibc for and not given back; the rest of the heap is free for it."""
    try:
        mallinfo2 = ctypes.CDLL(None).mallinfo2
    except AttributeError:
        return None
    mallinfo2.restype = _Mallinfo2
    return float(mallinfo2().uordblks) / 2**20


class Watch:
    """Samples of memory and of the number of compilations, one a second, from `begin` on.

    Args:
      seconds: after so many the run is asked to end, as by SIGTERM.

    Attributes:
      samples: seconds since the beginning, MiB, and compilations so far.
      allocated: MiB of each sample.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._compiled = 0
        self.samples: list[tuple[float, float, int]] = []
        self.allocated: list[float | None] = []
        self._begun, self._done = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "Watch":
        jax.monitoring.register_event_duration_secs_listener(self._count)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._done.set()
        self._begun.set()
        self._thread.join()

    def begin(self) -> None:
        """Starts the clock; harmless when repeated."""
        self._begun.set()

    def _count(self, event: str, duration: float, **_: Any) -> None:
        self._compiled += event == _COMPILED

    def _run(self) -> None:
        self._begun.wait()
        began, asked = time.monotonic(), False
        while not self._done.wait(1.0):
            seconds = time.monotonic() - began
            self.samples.append((seconds, resident_mib(), self._compiled))
            self.allocated.append(allocated_mib())
            if seconds > self._seconds and not asked:
                asked = True
                os.kill(os.getpid(), signal.SIGTERM)


def guarded(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same function; an implicit transfer in it is an error."""

    def call(*arguments: Any, **options: Any) -> Any:
        with jax.transfer_guard("disallow"):
            return function(*arguments, **options)

    return call


@contextlib.contextmanager
def no_hidden_transfers(task: type[TokenizerTask]) -> Iterator[None]:
    """Between two logged rows, nothing moves to the devices or from them but batches and metrics."""
    with contextlib.ExitStack() as stack:
        for place, name in (
            (task, "take_step"),
            (prefetch.DeviceBatches, "__next__"),
            (sharding, "shard_local_batch"),  # in its thread
            (loop, "_fetch"),
        ):
            stack.enter_context(mock.patch.object(place, name, guarded(getattr(place, name))))
        yield


def soak(minutes: float, workdir: Path) -> dict[str, Any]:
    """The first part."""
    steps: list[Any] = []

    def keep(*arguments: Any, **options: Any) -> Any:
        steps.append(jit_train_step(*arguments, **options))
        return steps[-1]

    def save(*arguments: Any) -> None:
        checkpoint(*arguments)
        watch.begin()  # all that a run compiles is compiled

    jit_train_step, checkpoint = jit.jit_train_step, loop.Checkpointer.save
    config = configuration(
        DataConfig(source="photos", image_size=32, batch_size=16, crops_per_picture=1000, test_limit=64),
        TrainingConfig(steps=10**8, log_every=10, eval_every=100, image_every=200, save_every=200),
    )
    with (
        mock.patch.object(jit, "jit_train_step", keep),
        mock.patch.object(loop.Checkpointer, "save", save),
        no_hidden_transfers(TokenizerTask),
        Watch(60 * minutes) as watch,
    ):
        result = loop.train(config, workdir)
    warm = [sample for sample in watch.samples if sample[0] >= min(60.0, 15.0 * minutes)]
    (step,) = steps
    after, end = (statistics.median(size for _, size, _ in part) for part in (warm[:10], warm[-10:]))
    return {
        "minutes": minutes,
        "steps": result.step,
        "resident_mib_after_warm_up": after,
        "resident_mib_at_the_end": end,
        "growth": end / after - 1.0,
        "resident_mib_every_half_minute": [round(size, 1) for _, size, _ in watch.samples[::30]],
        # The least of each minute: a save, a picture and an evaluation hold more while they last.
        "allocated_mib_least_of_every_minute": [
            round(min(part), 1)
            for first in range(0, len(watch.allocated), 60)
            if None not in (part := watch.allocated[first : first + 60])
        ],
        "programs_of_the_step": step._cache_size(),
        "compilations_before": warm[0][2],
        "compilations_after": warm[-1][2] - warm[0][2],
    }


class SleepingTask(TokenizerTask):
    """A tokenizer's run that does not train."""

    def take_step(self, state: Any, batch: Any, step: int) -> tuple[Any, Any]:
        """Sleeps."""
        time.sleep(SLEEP_SECONDS)
        return state, {"loss": np.float32(0.0)}


def sleeping(workers: int, workdir: Path) -> dict[str, Any]:
    """The second part."""
    folder = workdir / "pictures"
    input_pipeline.write_pictures(folder, 200, 1, seed=0)
    config = configuration(
        input_pipeline.config(folder, workers, scaled=True),
        TrainingConfig(steps=SLEEP_STEPS, log_every=10, eval_every=999, image_every=999, save_every=999),
    )
    uncached = mock.patch.object(input_pipeline.folders, "_CACHE_BYTES", 0)
    task = mock.patch.object(loop, "open_task", lambda config, workdir: SleepingTask(config, workdir))
    with uncached, task, no_hidden_transfers(SleepingTask):
        loop.train(config, workdir / "run")
    rows = read_metrics(workdir / "run")[1:]  # the first has the start of the workers
    return {
        "workers": workers,
        "batch": config.data.batch_size,
        "sleep_seconds": SLEEP_SECONDS,
        "steps": SLEEP_STEPS,
        "step_seconds": statistics.mean(row["time/step_seconds"] for row in rows),
        "data_wait": statistics.mean(row["time/data_wait"] for row in rows),
    }


def bounds(run: dict[str, Any], sleep: dict[str, Any]) -> dict[str, bool]:
    """What was asked for, and whether it held."""
    return {
        f"resident memory within {GROWTH:.0%} of that after the warm-up": run["growth"] <= GROWTH,
        "one program of the training step": run["programs_of_the_step"] == 1,
        "no compilation after the warm-up": run["compilations_after"] == 0,
        f"data wait under {WAIT:.0%}": sleep["data_wait"] < WAIT,
    }


def main() -> None:
    """Runs both parts; exits with status 1 if a bound is missed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--output", type=Path, help="JSON to write")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        run = soak(arguments.minutes, Path(place) / "soak")
        print(json.dumps(run), flush=True)
        sleep = sleeping(arguments.workers, Path(place))
        print(json.dumps(sleep), flush=True)
    held = bounds(run, sleep)
    for name, true in held.items():
        print(f"{'held' if true else 'MISSED'}: {name}")
    machine = {"device": f"{os.cpu_count()} CPU cores, {platform.machine()}", "jax": jax.__version__}
    if arguments.output:
        report = machine | {"run": run, "sleeping": sleep, "bounds": held}
        arguments.output.write_text(json.dumps(report, indent=2) + "\n")
    sys.exit(0 if all(held.values()) else 1)


if __name__ == "__main__":
    main()
