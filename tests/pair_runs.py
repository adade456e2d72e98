"""A small VQ-GAN trained by one process or by several, which the tests of that share."""

import errno
import json
import socket
import time
from pathlib import Path

from processes import Forked, finish
from shared import made_once

STEPS = 16
FEW_STEPS = 5
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
FRAME_PRIOR_FIELDS = (
    "prior-moving-fashion-next-frame",
    *("--prior.width", "8"),
    *("--prior.num-layers", "1"),
    *("--prior.context", "3"),
    *("--data.frames", "6"),
    *("--optimizer.warmup-steps", "1"),
    *("--training.eval-every", "3"),
)


SHARD_ROWS = 1000  # in a file of codes


def free_port():
    """A port that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def start(workdir, *more, fields=FIELDS, processes=2, devices=4, **faults):
    """Starts the run as so many processes, with so many devices together; a `Forked` each.

    Args:
      workdir: run directory.
      more: further arguments; one that is a function is called with the process's number.
      fields: the preset and its own arguments.
      processes: 1 starts a plain run.
      devices: of all processes together.
      **faults: what goes wrong, see `run`.
    """
    port = free_port()
    environment = {"JAX_NUM_CPU_DEVICES": str(devices // processes), "JAX_PLATFORMS": "cpu"}
    started = []
    for number in range(processes):
        own = [argument(number) if callable(argument) else argument for argument in more]
        arguments = ["train", *fields, "--workdir", str(workdir), "--batch-size", "8"]
        arguments += ["--data.test-limit", "16", "--training.log-every", "1"]
        if processes > 1:
            arguments += ["--distributed", "--coordinator", f"127.0.0.1:{port}"]
            arguments += ["--num-processes", str(processes), "--process-id", str(number)]
        started.append(Forked(run, [*arguments, *map(str, own)], number, faults, **environment))
    return started


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


def pair_run(steps=STEPS):
    """Directory and ends of a run of two processes that nothing interrupted."""

    def make(directory):
        ends = finish(start(directory / "run", "--steps", steps))
        assert [status for status, *_ in ends] == [0, 0], ends
        (directory / "ends.json").write_text(json.dumps(ends))

    directory = made_once(f"pair-{steps}", make)
    return directory / "run", json.loads((directory / "ends.json").read_text())


def run(arguments, number, faults):
    """Runs `vq-jax` with these arguments, as the process of this number, and lets things go wrong.

    Args:
      arguments: of the command line.
      number: of this process.
      faults: `slow`: seconds longer that a training step takes. `full_disk`: number of a process and the
        point of its second save at which its disk is full, as in [1, "before-save"]. `unreadable`: number
        of a process and step of the checkpoint that it cannot read. `slow_report`: seconds longer that
        process 0 takes for its report; jax then waits 2 seconds for those that end later.
    """
    from vq_jax.cli.main import main
    from vq_jax.runs import code_cache, distributed, orbax_managers
    from vq_jax.train import sharding
    from vq_jax.train.tasks.tokenizer import TokenizerTask

    shard_local_batch, restore = sharding.shard_local_batch, orbax_managers.ocp.CheckpointManager.restore
    report, saves = TokenizerTask.report, []
    slow, longer = faults.get("slow", 0.0), faults.get("slow_report", 0.0)
    full_on, full_at = faults.get("full_disk", (None, None))
    unreadable_on, unreadable = faults.get("unreadable", (None, None))

    def put_slowly(batch, mesh):
        time.sleep(slow)
        return shard_local_batch(batch, mesh)

    def fill_disk(point):
        saves.extend([point] if point == full_at else [])
        if len(saves) == 2 and point == full_at:
            raise OSError(errno.ENOSPC, "No space left on device")

    def restore_if_readable(manager, step, args):
        if step == unreadable and "state" in args.keys():
            raise ValueError("a sector of this disk cannot be read")
        return restore(manager, step, args=args)

    def report_slowly(*inputs):
        figures = report(*inputs)
        time.sleep(longer if number == 0 else 0.0)
        return figures

    code_cache.open_cache.__kwdefaults__["shard_rows"] = SHARD_ROWS
    sharding.shard_local_batch = put_slowly
    if full_on == number:
        orbax_managers.at_point = fill_disk
    if unreadable_on == number:
        orbax_managers.ocp.CheckpointManager.restore = restore_if_readable
    if longer:
        distributed._SHUTDOWN_SECONDS, TokenizerTask.report = 2, report_slowly
    return main(arguments)
