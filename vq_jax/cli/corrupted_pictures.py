"""`vq-jax evaluate --corruptions`: how robust a tokenizer is, as a table and a plot."""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vq_jax.errors import UserError

if TYPE_CHECKING:
    from vq_jax.cli.model_figures import HeldOut
    from vq_jax.pretrained.tokenizer import Tokenizer

PICTURES = 64
"""Held-out pictures that are corrupted when no number is given: there are 65 corruptions of each."""
_PLOTTED = {
    "codes_changed": "codes that change",
    "clean_psnr": "PSNR against the clean picture (dB)",
    "psnr": "PSNR against the corrupted picture (dB)",
}

Figures = Mapping[str, list[dict[str, float]]]
"""By corruption, the figures of severities 1 to 5."""


def robustness_figures(tokenizer: "Tokenizer", held_out: "HeldOut") -> Figures:
    """Corrupts the held-out pictures in every way and measures what comes of them.

    Raises:
      UserError: the tokenizer is one of clips.
    """
    import functools

    import jax
    import numpy as np
    from tqdm import tqdm

    from vq_jax.data.corruptions import CORRUPTIONS, SEVERITIES, corrupt
    from vq_jax.evaluate import Robustness, robustness_step

    if len(held_out.shape) != 3:
        raise UserError(
            f"--corruptions are of pictures, and this tokenizer takes clips {list(held_out.shape)}"
        )
    evaluator = Robustness()
    step = jax.jit(functools.partial(robustness_step, model=tokenizer.model, evaluator=evaluator))
    params, codebook = tokenizer.variables["params"], tokenizer.variables.get("codebook", {})
    totals: dict[tuple[str, int], dict[str, float]] = {}
    ways = [(name, severity) for name in CORRUPTIONS for severity in range(1, SEVERITIES + 1)]
    with tqdm(total=None, unit="way of a batch", disable=None) as bar:
        first = 0
        for batch in held_out:
            clean = held_out.target(batch)
            for name, severity in ways:
                number = list(CORRUPTIONS).index(name)
                corrupted = np.stack(
                    [
                        corrupt(
                            picture, name, severity, np.random.default_rng((first + row, number, severity))
                        )
                        for row, picture in enumerate(clean)
                    ]
                )
                given = {"image": corrupted, "target": clean, "valid": batch["valid"]}
                added = jax.tree.map(float, jax.device_get(step(params, codebook, given)))
                known = totals.get((name, severity), dict.fromkeys(added, 0.0))
                totals[name, severity] = {key: known[key] + value for key, value in added.items()}
                bar.update()
            first += len(clean)
    return {
        name: [evaluator.compute(totals[name, severity]) for severity in range(1, SEVERITIES + 1)]
        for name in CORRUPTIONS
    }


def robustness_table(figures: Figures) -> str:
    """The table for people: a row a corruption, the share of codes that change and the PSNR by severity."""
    width = max(map(len, figures))
    head = f"  {'':{width}}  {'codes that change, %':^30}  {'PSNR against the clean picture, dB':^35}"
    lines = [head, f"  {'severity':{width}}" + 2 * ("  " + "".join(f"{n:6}" for n in range(1, 6)))]
    for name, rows in figures.items():
        changed = "".join(f"{100 * row['codes_changed']:6.1f}" for row in rows)
        decibel = "".join(f"{row['clean_psnr']:6.1f}" for row in rows)
        lines.append(f"  {name:{width}}  {changed}  {decibel}")
    return "\n".join(lines)


def robustness_plot(figures: Figures, title: str) -> bytes:
    """A PNG: by severity, how many codes change and how far reconstructions move, a line a corruption."""
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    figure = Figure(figsize=(14, 4.5), layout="constrained")
    axes: Any = figure.subplots(1, len(_PLOTTED))
    colours = colormaps["tab20"]
    for axis, (key, label) in zip(axes, _PLOTTED.items(), strict=True):
        for number, (name, rows) in enumerate(figures.items()):
            axis.plot(range(1, 6), [row[key] for row in rows], "o-", color=colours(number), label=name, ms=3)
        axis.set(xlabel="severity", title=label, xticks=range(1, 6))
        axis.grid(alpha=0.3)
    figure.suptitle(title)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right upper", fontsize=8)
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=110)
    return file.getvalue()


def flat(figures: Figures) -> dict[str, float]:
    """The figures by names such as `contrast/3/clean_psnr`."""
    return {
        f"{name}/{severity}/{key}": value
        for name, rows in figures.items()
        for severity, row in enumerate(rows, start=1)
        for key, value in row.items()
    }


def check_alone(corruptions: bool, plot: Path | None, others: list[Any]) -> None:
    """Checks the options of corruptions.

    Raises:
      UserError: a plot without corruptions, no .png file for it, or options of other figures besides.
    """
    if not corruptions or (plot is not None and plot.suffix.lower() != ".png"):
        raise UserError(f"expected --plot FILE.png together with --corruptions, got --plot {plot}")
    if others:
        raise UserError(
            "--corruptions has figures of its own: leave --metrics, --against and --save-statistics out, got "
            f"{others[0]}"
        )


def corrupted(run: str, num: int | None, plot: Path | None, output: Path | None) -> list[tuple[Path, bytes]]:
    """Measures a tokenizer, prints the table, and returns the files to write.

    Raises:
      UserError: the run is not a tokenizer's, or it is one of clips.
    """
    import json

    from vq_jax.cli.model_figures import HeldOut
    from vq_jax.configs.serialize import header
    from vq_jax.pretrained.load_tokenizer import load_tokenizer

    tokenizer = load_tokenizer(run)
    held_out = HeldOut(tokenizer.config.data, tokenizer, PICTURES if num is None else num)
    figures = robustness_figures(tokenizer, held_out)
    title = f"{tokenizer.config.name}, step {tokenizer.step}, {held_out.pictures} held-out pictures"
    print(f"{title}, corrupted\n{robustness_table(figures)}")
    files = [] if plot is None else [(plot, robustness_plot(figures, title))]
    if output is not None:
        report = {**header("evaluation"), "run": run, "name": tokenizer.config.name, "step": tokenizer.step}
        report |= {"pictures": held_out.pictures, "figures": flat(figures)}
        files.append((output, (json.dumps(report, indent=2) + "\n").encode()))
    return files
