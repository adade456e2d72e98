"""Kills a training run at random moments, starts it again until done, and compares it with a quiet one.

A small run of 60 steps, saving every 5, is made once without interruption. Then the same command is
killed (SIGKILL) at a random moment of its life and started again, over and over; each time a run reaches
its end, its last checkpoint and its metrics are compared with the quiet run's, to the bit, and the next
one begins. After every kill the newest checkpoint must restore.

With --processes 2 the run is one of two processes over four CPU devices; each kill takes one of them, drawn
at random, and the other must end by itself within a minute, or, where they had not come together yet, when
it gives up waiting, after two.

Run:   python experiments/benchmarks/kill_resume.py --kills 20 [--processes 2] --output results.json
"""

import argparse
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import jax
import numpy as np

from vq_jax.pretrained.build import build_model
from vq_jax.runs.rundir import CHECKPOINTS, read_config, read_metrics
from vq_jax.train import Checkpointer
from vq_jax.train.tasks.tokenizer import abstract_state

STEPS, SAVE_EVERY = 60, 5
FIELDS = (
    f"--steps {STEPS} --training.save-every {SAVE_EVERY} --training.eval-every {SAVE_EVERY} "
    "--training.log-every 1 --training.image-every 20 --data.image-size 32 --batch-size 8 "
    "--data.test-limit 16 --model.channels 32 --model.codebook-size 64 --training.ema-decay 0.99"
)


LONGEST_SURVIVAL, LONGEST_WAIT = 60.0, 130.0  # seconds: once the processes have come together, and before
TOGETHER = "steps, in "  # in the log of process 0 from then on

Run = list["subprocess.Popen[bytes]"]


def start(workdir: Path, cache: Path, processes: int) -> Run:
    """Starts the run, or what is left of it."""
    command = [sys.executable, "-m", "vq_jax.cli.main", "train", "vqvae-photos", "--workdir", str(workdir)]
    environment = {
        **os.environ,
        "JAX_COMPILATION_CACHE_DIR": str(cache),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    others: list[list[str]] = [[]]
    if processes > 1:
        environment |= {"JAX_NUM_CPU_DEVICES": str(4 // processes), "JAX_PLATFORMS": "cpu"}
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            port = listener.getsockname()[1]
        shared = ["--distributed", "--coordinator", f"127.0.0.1:{port}", "--num-processes", str(processes)]
        others = [[*shared, "--process-id", str(number)] for number in range(processes)]
    return [
        subprocess.Popen(
            [*command, *FIELDS.split(), *own],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=log_of(workdir, number).open("wb"),
        )
        for number, own in enumerate(others)
    ]


def wait(run: Run, seconds: float | None = None) -> bool:
    """Waits for all processes to end; False where one is still there after so many seconds."""
    end = None if seconds is None else time.monotonic() + seconds
    for process in run:
        try:
            process.wait(None if end is None else max(0.0, end - time.monotonic()))
        except subprocess.TimeoutExpired:
            return False
    return True


def log_of(workdir: Path, number: int) -> Path:
    """Where a process's messages go."""
    return workdir.parent / f"{workdir.name}-{number}.log"


def kill_one(run: Run, victim: int, workdir: Path) -> dict[str, float | bool | None]:
    """Kills a process; seconds that the others lived on, None where one had to be killed too."""
    run[victim].send_signal(signal.SIGKILL)
    began = time.monotonic()
    together = TOGETHER in log_of(workdir, 0).read_text()
    ended = wait(run, LONGEST_SURVIVAL if together else LONGEST_WAIT)
    seconds = time.monotonic() - began
    for process in run:
        process.kill()
    wait(run)
    return {"together": together, "others_ended_after": round(seconds, 2) if ended else None}


def newest(workdir: Path) -> tuple[int, list[np.ndarray]] | None:
    """Step and arrays of the newest checkpoint; None where there is none yet."""
    if not (workdir / "config.json").exists() or not (workdir / CHECKPOINTS).exists():
        return None
    config = read_config(workdir)
    with Checkpointer(workdir / CHECKPOINTS, read_only=True) as checkpointer:
        steps = checkpointer.steps()
        if not steps:
            return None
        restored = checkpointer.restore(steps[-1], abstract_state(config, build_model(config)))
    return restored.step, [np.asarray(leaf) for leaf in jax.tree.leaves(restored.state)]


def rows(workdir: Path) -> list[dict[str, float]]:
    """Rows of the metrics without the timings."""
    return [
        {name: value for name, value in row.items() if not name.startswith("time/")}
        for row in read_metrics(workdir)
    ]


def main() -> None:
    """Runs the comparison; exits with status 1 if anything differs."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=1, choices=(1, 2))
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        began = time.monotonic()
        for quiet in (root / "warm-up", root / "quiet"):  # the first fills the compilation cache
            began = time.monotonic()
            run = start(quiet, root / "cache", arguments.processes)
            wait(run)
            if any(process.returncode for process in run):
                sys.exit("".join(path.read_text() for path in root.glob("*.log")))
        life = time.monotonic() - began
        expected, expected_rows = newest(root / "quiet"), rows(root / "quiet")
        assert expected is not None and expected[0] == STEPS

        kills: list[dict[str, float | bool | None]] = []
        runs, same = 0, True
        workdir = root / "run-0"
        before = 0
        while len(kills) < arguments.kills:
            run = start(workdir, root / "cache", arguments.processes)
            moment, victim = rng.uniform(0.0, life), rng.randrange(arguments.processes)
            if not wait(run, moment):
                others = kill_one(run, victim, workdir)
                same &= others["others_ended_after"] is not None
                found = newest(workdir)
                step = found[0] if found else 0
                kills.append(
                    {
                        "seconds": round(moment, 2),
                        "process": victim,
                        **others,
                        "newest_whole_checkpoint": step,
                    }
                )
                print(
                    f"kill {len(kills)}: process {victim} after {moment:.1f} s, newest checkpoint {step}, "
                    f"others ended after {others['others_ended_after']} s",
                    flush=True,
                )
                same &= step >= before  # nothing saved is ever lost
                before = step
                continue
            runs, same = runs + 1, same and not any(process.returncode for process in run)
            same &= _equal(newest(workdir), expected) and rows(workdir) == expected_rows
            print(f"run {runs} reached its end; the same to the bit so far: {same}", flush=True)
            workdir, before = root / f"run-{runs}", 0
        wait(start(workdir, root / "cache", arguments.processes))
        runs += 1
        same &= _equal(newest(workdir), expected) and rows(workdir) == expected_rows
    summary = {
        "processes": arguments.processes,
        "kills": kills,
        "runs_finished": runs,
        "identical": same,
        "jax": jax.__version__,
    }
    print(f"{len(kills)} kills over {runs} runs; all ended the same to the bit: {same}")
    if arguments.output:
        arguments.output.write_text(json.dumps(summary, indent=2) + "\n")
    sys.exit(0 if same else 1)


def _equal(a: tuple[int, list[np.ndarray]] | None, b: tuple[int, list[np.ndarray]] | None) -> bool:
    if a is None or b is None or a[0] != b[0] or len(a[1]) != len(b[1]):
        return False
    return all(np.array_equal(x, y) for x, y in zip(a[1], b[1], strict=True))


if __name__ == "__main__":
    main()
