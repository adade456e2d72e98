"""Kills a training run at random moments, starts it again until done, and compares it with a quiet one.

A small run of 60 steps, saving every 5, is made once without interruption. Then the same command is
killed (SIGKILL) at a random moment of its life and started again, over and over; each time a run reaches
its end, its last checkpoint and its metrics are compared with the quiet run's, to the bit, and the next
one begins. After every kill the newest checkpoint must restore.

Run:   python experiments/benchmarks/kill_resume.py --kills 20 --output results.json
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import jax
import numpy as np

from vq_jax.train import Checkpointer
from vq_jax.train.rundir import CHECKPOINTS, read_config, read_metrics
from vq_jax.train.tokenizer_task import abstract_state, build_model

STEPS, SAVE_EVERY = 60, 5
FIELDS = (
    f"--steps {STEPS} --training.save-every {SAVE_EVERY} --training.eval-every {SAVE_EVERY} "
    "--training.log-every 1 --training.image-every 20 --data.image-size 32 --batch-size 8 "
    "--data.test-limit 16 --model.channels 32 --model.codebook-size 64 --training.ema-decay 0.99"
)


def start(workdir: Path, cache: Path) -> subprocess.Popen[bytes]:
    """Starts the run, or what is left of it."""
    command = [sys.executable, "-m", "vq_jax.cli", "train", "vqvae-photos", "--workdir", str(workdir)]
    environment = {
        **os.environ,
        "JAX_COMPILATION_CACHE_DIR": str(cache),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    return subprocess.Popen(
        [*command, *FIELDS.split()], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )


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
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        began = time.monotonic()
        for quiet in (root / "warm-up", root / "quiet"):  # the first fills the compilation cache
            began = time.monotonic()
            process = start(quiet, root / "cache")
            _, errors = process.communicate()
            if process.returncode:
                sys.exit(errors.decode())
        life = time.monotonic() - began
        expected, expected_rows = newest(root / "quiet"), rows(root / "quiet")
        assert expected is not None and expected[0] == STEPS

        kills: list[dict[str, float | None]] = []
        runs, same = 0, True
        workdir = root / "run-0"
        before = 0
        while len(kills) < arguments.kills:
            process = start(workdir, root / "cache")
            moment = rng.uniform(0.0, life)
            try:
                process.communicate(timeout=moment)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                process.communicate()
                found = newest(workdir)
                step = found[0] if found else 0
                kills.append({"seconds": round(moment, 2), "newest_whole_checkpoint": step})
                print(f"kill {len(kills)}: after {moment:.1f} s, newest whole checkpoint {step}", flush=True)
                same &= step >= before  # nothing saved is ever lost
                before = step
                continue
            runs, same = runs + 1, same and process.returncode == 0
            same &= _equal(newest(workdir), expected) and rows(workdir) == expected_rows
            print(f"run {runs} reached its end; the same to the bit so far: {same}", flush=True)
            workdir, before = root / f"run-{runs}", 0
        process = start(workdir, root / "cache")
        process.communicate()
        runs += 1
        same &= _equal(newest(workdir), expected) and rows(workdir) == expected_rows
    summary = {"kills": kills, "runs_finished": runs, "identical": same, "jax": jax.__version__}
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
