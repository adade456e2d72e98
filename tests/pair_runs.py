"""A small VQ-GAN trained by one process or by several, which the tests of that share.

As a program it is `vq-jax` with what these environment variables ask for. Training steps take SLOW seconds
longer. The disk is full at a point of the second save where FULL_DISK names it with the process's number, as
in 1:before-save. UNREADABLE names a process and the step of a checkpoint that it cannot read, as in 1:12.
Process 0 takes SLOW_REPORT seconds longer for its report; jax then waits 2 seconds for those that end later.
Files of codes hold SHARD_ROWS records.
"""

import errno
import functools
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

STEPS = 16
FIELDS = (
    "vqgan-fashion",
    *("--model.channels", "8"),
    *("--model.residual-channels", "4"),
    *("--model.num-res-blocks", "1"),
    *("--model.codebook-size", "16"),
    *("--model.code-dim", "4"),
    *("--discriminator.channels", "4"),
    *("--discriminator.num-layers", "1"),
    *("--losses.adversarial-start", "0"),
    *("--losses.adversarial-ramp", "0"),
    *("--training.eval-every", "5"),
    *("--training.image-every", "5"),
    *("--training.save-every", "4"),
    *("--optimizer.schedule", "constant"),
)
PRIOR_FIELDS = (
    "prior-fashion",
    *("--prior.width", "16"),
    *("--prior.num-layers", "1"),
    *("--prior.num-heads", "2"),
    *("--optimizer.warmup-steps", "1"),
)


def free_port():
    """A port that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def start(
    workdir,
    *more,
    fields=FIELDS,
    processes=2,
    devices=4,
    slow=0.0,
    full_disk="",
    unreadable="",
    slow_report=0.0,
):
    """Starts the run as so many processes, with so many devices together; a Popen each.

    Args:
      workdir: run directory.
      more: further arguments; one that is a function is called with the process's number.
      fields: the preset and its own arguments.
      processes: 1 starts a plain run.
      devices: of all processes together.
      slow: seconds that are added to a step.
      full_disk: process and point of a save, see above.
      unreadable: process and step, see above.
      slow_report: seconds, see above.
    """
    port = free_port()
    environment = {
        **os.environ,
        "JAX_NUM_CPU_DEVICES": str(devices // processes),
        "JAX_PLATFORMS": "cpu",
        "SLOW": str(slow),
        "FULL_DISK": full_disk,
        "UNREADABLE": unreadable,
        "SLOW_REPORT": str(slow_report),
        "SHARD_ROWS": "1000",
    }
    started = []
    for number in range(processes):
        own = [argument(number) if callable(argument) else argument for argument in more]
        command = [sys.executable, __file__, "train", *fields, "--workdir", str(workdir), "--batch-size", "8"]
        command += ["--data.test-limit", "16", "--training.log-every", "1"]
        if processes > 1:
            command += ["--distributed", "--coordinator", f"127.0.0.1:{port}"]
            command += ["--num-processes", str(processes), "--process-id", str(number)]
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        command += map(str, own)
        started.append(subprocess.Popen(command, env=environment, text=True, **streams))
    return started


def finish(processes, timeout=600):
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


def rows(workdir):
    """Rows of metrics.jsonl without the timings."""
    path = Path(workdir) / "metrics.jsonl"
    lines = (
        [line for line in path.read_text().splitlines(True) if line.endswith("\n")] if path.exists() else []
    )
    return [
        {name: value for name, value in json.loads(line).items() if not name.startswith("time/")}
        for line in lines
    ]


@functools.cache
def pair_run(base):
    """Directory and ends of a run of two processes that nothing interrupted."""
    workdir = base / "pair"
    ends = finish(start(workdir, "--steps", STEPS))
    assert [status for status, *_ in ends] == [0, 0], ends
    return workdir, ends


def main():
    """Runs `vq-jax` with slower steps, a full disk, a checkpoint that does not read and a slow report."""
    from vq_jax.cli.main import main as vq_jax_main
    from vq_jax.runs import code_cache, distributed, orbax_managers
    from vq_jax.train import sharding
    from vq_jax.train.tasks.tokenizer import TokenizerTask

    shard_local_batch, seconds = sharding.shard_local_batch, float(os.environ["SLOW"])
    here = sys.argv[sys.argv.index("--process-id") + 1] if "--process-id" in sys.argv else "0"
    process, _, full = os.environ["FULL_DISK"].partition(":")
    reader, _, unreadable = os.environ["UNREADABLE"].partition(":")
    saves, longer = [], float(os.environ["SLOW_REPORT"])
    restore, report = orbax_managers.ocp.CheckpointManager.restore, TokenizerTask.report

    def put_slowly(batch, mesh):
        time.sleep(seconds)
        return shard_local_batch(batch, mesh)

    def fill_disk(point):
        saves.extend([point] if point == full else [])
        if len(saves) == 2 and point == full:
            raise OSError(errno.ENOSPC, "No space left on device")

    def restore_if_readable(manager, step, args):
        if str(step) == unreadable and "state" in args.keys():
            raise ValueError("a sector of this disk cannot be read")
        return restore(manager, step, args=args)

    def report_slowly(*inputs):
        figures = report(*inputs)
        time.sleep(longer if here == "0" else 0.0)
        return figures

    code_cache.open_cache.__kwdefaults__["shard_rows"] = int(os.environ["SHARD_ROWS"])
    sharding.shard_local_batch = put_slowly
    if process == here:
        orbax_managers.at_point = fill_disk
    if reader == here:
        orbax_managers.ocp.CheckpointManager.restore = restore_if_readable
    if longer:
        distributed._SHUTDOWN_SECONDS, TokenizerTask.report = 2, report_slowly
    sys.exit(vq_jax_main())


if __name__ == "__main__":
    main()
