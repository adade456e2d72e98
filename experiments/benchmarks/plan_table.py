"""A table of the plans in results/plan, and a plot of weak scaling drawn from them.

A plan is a training step compiled for a TPU slice that is not there, `vq-jax plan PRESET --topology v5e:4x4
--json results/plan/NAME.json`. Its times are bounds: multiplications at the chip's peak, HBM traffic at the
memory's bandwidth, collectives at that of the links, each as if the other two cost nothing.

Weak scaling keeps the batch of a chip, so that multiplications and traffic of a chip stay those of the plan;
the collectives' arrays stay too, and their time follows from the number of chips and the links of the slice.
So the plot is worked out from the plan of one slice, not compiled for each.

Run: python experiments/benchmarks/plan_table.py      (seconds; writes plan.md and weak_scaling.png)
"""

import argparse
import dataclasses
import json
from pathlib import Path
from typing import Any

from vq_jax.host.chips import Slice, parse_slice
from vq_jax.plan.hlo import Collective

RESULTS = Path(__file__).parent / "results"
SCALING = ("2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16")  # 4 to 256 chips of a plane


def read_plans(folder: Path) -> list[dict[str, Any]]:
    """All plans of a folder, by preset, topology and batch."""
    plans = [plan for path in sorted(folder.glob("*.json")) for plan in json.loads(path.read_text())]
    if not plans:
        raise SystemExit(f"there are no plans in {folder}: make some with vq-jax plan --json")
    return sorted(plans, key=lambda plan: (plan["preset"], plan["topology"], plan["per_device_batch"]))


def collective_seconds(plan: dict[str, Any], target: Slice) -> float:
    """Time of collectives on another slice, of which all chips take part in each; of a plan without fsdp."""
    found = [Collective(**collective) for collective in plan["program"]["collectives"]]
    among = [dataclasses.replace(c, group=target.chips) for c in found if c.group > 1]
    return sum(collective.sent for collective in among) / target.egress


def largest(plan: dict[str, Any], plans: list[dict[str, Any]]) -> str:
    """The largest batch of a chip: searched for, or derived from what was searched for elsewhere.

    Without fsdp a chip holds the same whatever their number. On another kind of chip memory is taken to
    grow as it did where it was searched; where nothing was, as if all but arguments and program grew.
    """
    alike = [
        other for other in plans if all(other[name] == plan[name] for name in ("preset", "fsdp", "remat"))
    ]
    searched = min(
        (other for other in alike if other.get("largest")),
        key=lambda other: (other["topology"] != plan["topology"], _chip(other) != _chip(plan)),
        default=None,
    )
    if searched and searched["topology"] == plan["topology"]:
        return str(searched["per_device_batch"])
    if not plan["fits"]:
        return "less"
    if searched and plan["fsdp"] == 1 and _chip(searched) == _chip(plan):
        return f"about {searched['per_device_batch']}"
    rows = [other for other in alike if searched and other["topology"] == searched["topology"]]
    first = min(rows, key=lambda other: other["per_device_batch"], default=None)
    if searched and first and first is not searched:
        grown = searched["peak"] - first["peak"]
        each = grown / (searched["per_device_batch"] - first["per_device_batch"])
    else:
        fixed = plan["memory"]["arguments"] + plan["memory"]["program"]
        each = (plan["peak"] - fixed) / plan["per_device_batch"]
    derived = plan["per_device_batch"] + (plan["hbm"] - plan["peak"]) / each
    return f"about {float(f'{derived:.2g}'):.0f}"


def _chip(plan: dict[str, Any]) -> str:
    return str(plan["topology"].partition(":")[0])


def row(plan: dict[str, Any], plans: list[dict[str, Any]]) -> list[str]:
    """Cells of a plan, one of all plans."""
    cells = [
        plan["preset"]
        + (", remat" if plan["remat"] else "")
        + (f", fsdp {plan['fsdp']}" * (plan["fsdp"] > 1)),
        plan["topology"],
        str(plan["per_device_batch"]),
        largest(plan, plans),
        f"{'yes' if plan['fits'] else 'no'}, {plan['peak'] / 2**30:.1f} of {plan['hbm'] / 2**30:.0f}"
        if plan["peak"]
        else "no",
    ]
    if not plan["fits"]:
        return cells + ["-"] * 8
    program = plan["program"]
    moved = sum(collective["bytes"] for collective in program["collectives"])
    kinds = ", ".join(f"{c['count']:.0f} {c['kind']}" for c in program["collectives"])
    return [
        *cells,
        f"{program['flops'] / 1e12:.2f}",
        f"{program['hbm_bytes'] / 1e9:.1f}",
        f"{moved / 1e6:.0f} ({kinds})",
        f"{1e3 * plan['compute_seconds']:.1f}",
        f"{1e3 * plan['hbm_seconds']:.1f}",
        f"{1e3 * plan['collective_seconds']:.1f}",
        plan["bound"],
        f"{plan['pictures_per_second']:.0f}",
    ]


def table(plans: list[dict[str, Any]]) -> str:
    """The page."""
    head = [
        "preset",
        "topology",
        "batch a chip",
        "largest",
        "fits, GiB a chip",
        "TFLOP a chip",
        "HBM traffic, GB",
        "collectives, MB",
        "compute, ms",
        "HBM, ms",
        "collectives, ms",
        "bound by",
        "at most, pictures/s a chip",
    ]
    lines = [
        "# Training steps on TPU slices, compiled without one",
        "",
        "Made by `experiments/benchmarks/plan_table.py` from what `vq-jax plan` wrote into `plan/`. "
        "No TPU was used: these are bounds from the compiled program and the published figures of the chips "
        "(`vq_jax/host/chips.py`), not measurements. A picture is a grid of codes for a prior.",
        "",
        "Loops count by their rounds, a conditional with its dearest branch, HBM traffic in whole tiles; "
        "blocks that are recomputed count as often as they are computed. The largest batch was searched for "
        "by `--max-batch` where it stands without a word: one more does not fit. Where it says about, it was "
        "derived: the same as on another slice of these chips; on other chips with memory growing as it did "
        "between the two rows of the slice where it was searched for, to two digits. GiB are "
        "what is in use at once, at most; the compiler keeps a quarter of a GiB of the chip's for itself. "
        "Near the limit it computes and moves things again so that they fit: the largest batch is not the "
        "fastest.",
        "",
        "| " + " | ".join(head) + " |",
        "|" + "---|" * len(head),
        *("| " + " | ".join(row(plan, plans)) + " |" for plan in plans),
        "",
        "![Weak scaling](weak_scaling.png)",
        "",
        "Weak scaling from the plans on v5e:4x4, worked out for the other slices: the batch of a chip stays, "
        "and with it compute and HBM traffic; collectives take the time that the slice's links give.",
        "",
    ]
    return "\n".join(lines)


def plot(plans: list[dict[str, Any]], target: Path) -> None:
    """Collective time against all else, from 4 to 256 chips of v5e."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    slices = [parse_slice(f"v5e:{shape}") for shape in SCALING]
    chips = [target.chips for target in slices]
    figure, axes = plt.subplots(figsize=(7.5, 4.5), layout="constrained")
    shown = [p for p in plans if p["topology"] == "v5e:4x4" and p["fsdp"] == 1 and p["fits"]]
    for number, plan in enumerate(shown):
        colour = f"C{number}"
        alone = 1e3 * max(plan["compute_seconds"], plan["hbm_seconds"])
        name = f"{plan['preset']}, {plan['per_device_batch']} a chip: {plan['bound']}"
        axes.plot(chips, [alone] * len(chips), color=colour, label=name)
        times = [1e3 * collective_seconds(plan, target) for target in slices]
        axes.plot(chips, times, "--o", color=colour, markersize=4)
    axes.plot([], [], "--o", color="grey", markersize=4, label="collectives, at the links' speed")
    axes.set(xscale="log", yscale="log", xlabel="chips of v5e", ylabel="milliseconds a step, at least")
    axes.set_xticks(chips, [f"{count}\n{shape}" for count, shape in zip(chips, SCALING, strict=True)])
    axes.minorticks_off()
    figure.legend(loc="outside lower center", fontsize=8, ncols=2)
    axes.grid(alpha=0.3)
    figure.savefig(target, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--results", type=Path, default=RESULTS, help="where plan/ is, and where to write")
    folder = parser.parse_args().results
    plans = read_plans(folder / "plan")
    plot(plans, folder / "weak_scaling.png")
    (folder / "plan.md").write_text(table(plans))
    print(folder / "plan.md")


if __name__ == "__main__":
    main()
