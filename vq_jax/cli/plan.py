"""The command `vq-jax plan`."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from vq_jax.cli.files import write
from vq_jax.configs.fields import PATH
from vq_jax.configs.presets import load_preset
from vq_jax.errors import UserError
from vq_jax.host.chips import Slice, parse_slice

if TYPE_CHECKING:
    from vq_jax.plan.plan import Plan

Preset = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="PRESET")]
Topologies = Annotated[tuple[str, ...], tyro.conf.arg(metavar="CHIP:SHAPE [CHIP:SHAPE ...]")]
JsonFile = Annotated[Path | None, PATH, tyro.conf.arg(metavar="FILE.json")]


def plan(
    preset: Preset,
    topology: Topologies,
    per_device_batch: int | None = None,
    fsdp: int | None = None,
    remat: bool = False,
    max_batch: bool = False,
    tokenizer: str | None = None,
    classes: int | None = None,
    json: JsonFile = None,
) -> int:
    """Compile a training step for a TPU slice without having one: does it fit, and how fast can it be.

    Args:
      preset: experiment by name, or a Python file.
      topology: slice, such as v5e:4x4; several give a table.
      per_device_batch: pictures a chip and step; the experiment's batch divided by the chips when absent.
      fsdp: chips that share one copy of the weights; the experiment's own when absent.
      remat: recompute blocks in the backward pass, for less memory.
      max_batch: search for the largest batch a chip that fits, starting at --per-device-batch, or 8.
      tokenizer: of a prior, preset or file of the tokenizer; the one its run is named after when absent.
      classes: of a prior, number of the pictures' classes, 0 for none; that of a known set when absent.
      json: file to write all figures to; until a search ends, it has every plan tried so far.
    """
    slices = [parse_slice(name) for name in topology]
    if not slices:
        raise UserError("expected at least one --topology, such as v5e:4x4, got none")
    config = load_preset(preset)
    from vq_jax.plan import plan as planning
    from vq_jax.plan.batch_search import largest_batch

    planning.require_libtpu()
    planning.prepare_environment(slices[0])
    plans: list[Plan] = []
    for wanted in slices:
        tried: list[Plan] = []

        def make(batch: int | None, wanted: Slice = wanted, tried: list["Plan"] = tried) -> "Plan":
            _log(f"{wanted.name}: compiling" + (f" {batch} pictures a chip" if batch else ""))
            made = planning.make_plan(
                config,
                wanted,
                per_device_batch=batch,
                fsdp=fsdp,
                remat=remat,
                tokenizer=tokenizer,
                classes=classes,
            )
            if max_batch:
                _log(f"{wanted.name}: {batch} pictures a chip: {_room(made)}")
                tried.append(made)
                if json is not None:
                    _write(json, plans + tried)  # a compilation takes minutes: its figures are kept
            return made

        if max_batch:
            start = 8 if per_device_batch is None else per_device_batch
            found = largest_batch(make, start)
            plans.append(found or tried[-1])  # of one picture
        else:
            plans.append(make(per_device_batch))
    if json is not None:
        _write(json, plans)
    print("\n\n".join(map(_described, plans)))
    if len(plans) > 1:
        print("\n" + _table(plans))
    return 0


def _write(path: Path, plans: "list[Plan]") -> None:
    import json

    write(path, (json.dumps([plan.as_json() for plan in plans], indent=2) + "\n").encode())


def _described(plan: "Plan") -> str:
    batch = f"{plan.per_device_batch} a chip, {plan.per_device_batch * plan.chips} in all"
    lines = [f"{plan.preset} on {plan.topology}: {plan.chips} chips, batch {batch}"]
    memory = ", ".join(f"{kind} {_size(size)}" for kind, size in plan.memory.items())
    lines.append(f"  HBM a chip, at its peak: {_total(plan)}" + (f" ({memory} in all)" if memory else ""))
    if plan.program is None:
        return "\n".join([*lines, "  does not fit: try a smaller --per-device-batch, --remat or --fsdp"])
    lines += [
        "  fits",
        f"  multiplications: {plan.program.flops / 1e12:.3f} TFLOP, {_milliseconds(plan.compute_seconds)}",
        f"  HBM traffic: {_size(plan.program.hbm_bytes)}, {_milliseconds(plan.hbm_seconds)}",
        f"  collectives: {_milliseconds(plan.collective_seconds)}",
    ]
    lines += [
        f"    {found.kind} among {found.group}: {found.count:.0f}, {_size(found.bytes)}"
        for found in plan.program.collectives
    ]
    lines.append(
        f"  at most {plan.pictures_per_second:.1f} pictures/s a chip, bound by {plan.bound}; "
        f"utilisation at most {plan.utilisation:.1%}"
    )
    if plan.program.loops_of_unknown_length:
        lines.append(
            f"  {plan.program.loops_of_unknown_length} loops of unknown length are counted as one "
            "round: the true times are longer and the rates lower"
        )
    return "\n".join(lines)


def _total(plan: "Plan") -> str:
    return f"{_size(plan.peak)} of {_size(plan.hbm)}" if plan.peak else "more than the chip has"


def _room(plan: "Plan") -> str:
    return f"{'fits' if plan.fits else 'does not fit'}, {_total(plan)}"


def _table(plans: "list[Plan]") -> str:
    rows = [("topology", "batch/chip", "HBM/chip", "fits", "bound by", "pictures/s/chip", "utilisation")]
    for plan in plans:
        fits = plan.program is not None
        rows.append(
            (
                plan.topology,
                str(plan.per_device_batch),
                _size(plan.peak) if plan.peak else "-",
                "yes" if fits else "no",
                plan.bound if fits else "-",
                f"{plan.pictures_per_second:.1f}" if fits else "-",
                f"{plan.utilisation:.1%}" if fits else "-",
            )
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def _size(count: float) -> str:
    for unit, factor in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if count >= factor:
            return f"{count / factor:.2f} {unit}"
    return f"{count:.0f} B"


def _milliseconds(seconds: float) -> str:
    return f"{1e3 * seconds:.3f} ms"


def _log(message: str) -> None:
    logging.getLogger("vq_jax").info(message)
