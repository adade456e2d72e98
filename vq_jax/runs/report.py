"""report.md of a run, with its plots."""

import dataclasses
import datetime
import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from etils import epath

from vq_jax.configs.runs import RunConfig
from vq_jax.data.source import printable
from vq_jax.errors import UserError
from vq_jax.evaluate import LPIPS_SMALLEST, lpips, psnr, ssim
from vq_jax.host.files import write_atomic
from vq_jax.runs import collapse
from vq_jax.runs.animations import write_video
from vq_jax.runs.distributed import is_main
from vq_jax.runs.grids import comparison_grid, write_png
from vq_jax.runs.rundir import CONFIG_FILE, IMAGES, REPORT, read_metrics, report_title

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclasses.dataclass(frozen=True)
class About:
    """What a report says of its run besides figures.

    Attributes:
      data: what the data are, in words.
      command: the command line that ran it; None where there was none.
    """

    data: str
    command: str | None = None


def write_report(
    workdir: epath.Path,
    config: RunConfig,
    step: int,
    about: About,
    pictures: Sequence[np.ndarray],
    reconstructions: Sequence[np.ndarray],
    counts: Mapping[str, np.ndarray],
    given: Sequence[np.ndarray] | None = None,
) -> dict[str, float]:
    """Writes report.md with the loss curve, the use of the codes and test pictures.

    Args:
      workdir: run directory.
      config: its configuration.
      step: updates made.
      about: data and command.
      pictures: uint8 test pictures [H, W, C], or clips [T, H, W, C].
      reconstructions: uint8, one of each picture.
      counts: how often each code occurs in the test set, float [K], by the ending of the names of figures,
        see `evaluate.CodeUsage.counts`; empty where the quantizer was bypassed.
      given: uint8, what the model was given of each picture, where that is not the picture.

    Returns:
      Means over the pictures, see `picture_figures`. Only the first process writes; the others return an
      empty dictionary.
    """
    if not is_main():
        return {}
    rows = read_metrics(workdir)
    figures, words = picture_figures(pictures, reconstructions)
    shown = [pictures, reconstructions] if given is None else [given, reconstructions, pictures]
    write_png(workdir / IMAGES / "final.png", comparison_grid(*shown))
    order = "the original above its reconstruction"
    if given is not None:
        order = "what the model was given, its reconstruction and the original, from top to bottom"
    what = "pictures" if pictures[0].ndim == 3 else "clips"
    lines = [
        *_heading(workdir, config, step, about, rows, "reconstruction_loss"),
        f"Test {what}, {order}:",
        "",
        f"![Reconstructions]({IMAGES}/final.png)",
        "",
        *(_animated(workdir, shown) if pictures[0].ndim == 4 else []),
        f"{words} on these {what}.",
        "",
    ]
    if counts:
        _plot_usage(workdir / IMAGES / "code-usage.png", counts)
        lines += [f"![Code use]({IMAGES}/code-usage.png)", ""]
    for name, uses in counts.items():
        codes = collapse.codes_of(config, name)
        lines += [f"{int(np.sum(uses > 0))} of {uses.size} {codes} are used on the test set.", ""]
    lines += [line for text in collapse.warnings(config, rows) for line in (f"**{text}**", "")]
    write_atomic(workdir / REPORT, "\n".join(lines + _figures_table(rows)) + "\n")
    return figures


def _animated(workdir: epath.Path, rows: Sequence[Sequence[np.ndarray]]) -> list[str]:
    """Writes clips above others as an animation; returns the lines that show it."""
    frames = [
        comparison_grid(*([clip[t] for clip in clips] for clips in rows)) for t in range(len(rows[0][0]))
    ]
    write_video(workdir / IMAGES / "final.gif", np.stack(frames))
    return [f"![The same clips, moving]({IMAGES}/final.gif)", ""]


def write_prior_report(
    workdir: epath.Path,
    config: RunConfig,
    step: int,
    about: About,
    samples: np.ndarray,
    words: str,
    moving: Sequence[Sequence[np.ndarray]] | None = None,
) -> dict[str, float]:
    """Writes report.md of a prior with the loss curve and what was drawn from it.

    Args:
      workdir: run directory.
      config: its configuration.
      step: updates made.
      about: data and command.
      samples: uint8 [H, W, 3], a grid of pictures, or strips of clips.
      words: says what they are.
      moving: of clips, they themselves, uint8 [T, H, W, C], in rows of as many, for an animation.

    Returns:
      An empty dictionary: drawn pictures have no figures.
    """
    if not is_main():
        return {}
    rows = read_metrics(workdir)
    write_png(workdir / IMAGES / "final.png", samples)
    lines = [
        *_heading(workdir, config, step, about, rows, "loss"),
        words,
        "",
        f"![Samples]({IMAGES}/final.png)",
        "",
        *([] if moving is None else _animated(workdir, moving)),
    ]
    write_atomic(workdir / REPORT, "\n".join(lines + _figures_table(rows)) + "\n")
    return {}


def _heading(
    workdir: epath.Path,
    config: RunConfig,
    step: int,
    about: About,
    rows: Sequence[dict[str, float]],
    loss: str,
) -> list[str]:
    """Draws the loss curve; returns the lines that a report begins with."""
    _plot_losses(workdir / IMAGES / "loss.png", rows, loss, averaged=config.training.ema_decay > 0)
    lines = [
        report_title(config.name, step),
        "",
        f"- Data: {printable(about.data)}.",
        f"- {_duration(rows)}",
        *([] if about.command is None else [f"- Command: `{printable(about.command)}`"]),
        f"- All fields of the configuration are in {CONFIG_FILE}.",
    ]
    return [*lines, "", f"![Loss]({IMAGES}/loss.png)", ""]


def _duration(rows: Sequence[dict[str, float]]) -> str:
    """Says how long the steps took, by the rates that were logged."""
    seconds, before = 0.0, 0.0
    for row in rows:
        seconds += row.get("time/step_seconds", 0.0) * (row["step"] - before)
        before = row["step"]
    words = str(datetime.timedelta(seconds=round(seconds)))
    return f"The steps took {words} (hours:minutes:seconds), without evaluations, pictures and checkpoints."


def _figures_table(rows: Sequence[dict[str, float]]) -> list[str]:
    last: dict[str, float] = {}
    for row in rows:
        last |= row
    return [
        "| figure | last value |",
        "|---|---|",
        *(
            f"| {name} | {value:.5g} |"
            for name, value in last.items()
            if isinstance(value, float | int) and name != "step"
        ),
    ]


def picture_figures(
    pictures: Sequence[np.ndarray], reconstructions: Sequence[np.ndarray]
) -> tuple[dict[str, float], str]:
    """Compares pairs of uint8 pictures [H, W, C], or of clips [T, H, W, C], frame by frame.

    Returns:
      Means over the pairs, or their frames: `test/psnr` (decibel), `test/ssim` and, where its weights are
      installed and the pictures have at least 31 px, `test/lpips` (AlexNet); and the same in words.
    """
    if pictures[0].ndim == 4:
        pictures, reconstructions = [*np.concatenate(pictures)], [*np.concatenate(reconstructions)]
    pairs = list(zip(pictures, reconstructions, strict=True))
    figures = {
        "test/psnr": float(np.mean([psnr(a, b) for a, b in pairs])),
        "test/ssim": float(np.mean([ssim(a, b) for a, b in pairs])),
    }
    words = f"PSNR {figures['test/psnr']:.2f} dB, SSIM {figures['test/ssim']:.3f}"
    if min(min(picture.shape[:2]) for picture in pictures) < LPIPS_SMALLEST:
        return figures, f"{words} (LPIPS is not defined for pictures this small)"
    try:
        figures["test/lpips"] = float(np.mean([lpips(a, b) for a, b in pairs]))
    except UserError:  # a run without a perceptual loss does not need the weights
        return figures, f"{words} (LPIPS not measured: pip install vq-jax[lpips])"
    return figures, f"{words}, LPIPS (AlexNet) {figures['test/lpips']:.3f}"


def _plot_losses(path: epath.Path, rows: Sequence[dict[str, float]], loss: str, *, averaged: bool) -> None:
    figure = _figure()
    axes = figure.add_subplot()
    on_test_set = "test set, averaged weights" if averaged else "test set"
    for name, label in ((loss, "training"), ("validation/loss", on_test_set)):
        points = [(row["step"], row[name]) for row in rows if isinstance(row.get(name), float | int)]
        if points:
            axes.plot(*zip(*points, strict=True), label=label)
    axes.set(xlabel="step", ylabel=loss.replace("_", " "), yscale="log")
    axes.legend()
    _save(figure, path)


def _plot_usage(path: epath.Path, counts: Mapping[str, np.ndarray]) -> None:
    figure = _figure()
    axes = figure.add_subplot()
    for name, uses in counts.items():
        share = np.sort(uses / max(uses.sum(), 1.0))[::-1]
        places = np.arange(uses.size)
        if len(counts) == 1:
            axes.fill_between(places, share, step="mid")
        else:
            axes.step(places, share, where="mid", label=f"codes {name.lstrip('/')}")
    for size in sorted({uses.size for uses in counts.values()}):
        axes.axhline(1.0 / size, color="black", linewidth=0.8, label=f"even use of {size} codes")
    axes.set(xlabel="code, most used first", ylabel="share of the test set's codes")
    axes.legend()
    _save(figure, path)


def _figure() -> "Figure":
    # Figure, not pyplot: no display, no global state.
    from matplotlib.figure import Figure

    return Figure(figsize=(7, 3.5), layout="constrained")


def _save(figure: "Figure", path: epath.Path) -> None:
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=100)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, buffer.getvalue())
