"""What people look at: grids of pictures, the report with its plots."""

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from etils import epath
from PIL import Image

from vq_jax.configs.runs import ExperimentConfig, RunConfig
from vq_jax.errors import UserError
from vq_jax.evaluate import LPIPS_SMALLEST, lpips, psnr, ssim
from vq_jax.runs.distributed import is_main
from vq_jax.runs.rundir import IMAGES, REPORT, read_metrics

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SHOWN_HEIGHT = 112  # px; smaller pictures are enlarged, pixel by pixel
_GAP = 4


def comparison_grid(originals: Sequence[np.ndarray], others: Sequence[np.ndarray]) -> np.ndarray:
    """Puts each original above its reconstruction.

    Args:
      originals: uint8 [H, W, C], sizes may differ, C 1 or 3.
      others: alike.

    Returns:
      uint8 [H, W, 3], white between the pictures.
    """
    columns = []
    for top, bottom in zip(originals, others, strict=True):
        scale = max(1, round(_SHOWN_HEIGHT / top.shape[0]))
        pair = [np.repeat(np.repeat(_rgb(picture), scale, 0), scale, 1) for picture in (top, bottom)]
        gap = np.full((_GAP, pair[0].shape[1], 3), 255, np.uint8)
        columns.append(np.concatenate([pair[0], gap, pair[1]]))
    height = max(column.shape[0] for column in columns)
    padded = [
        np.pad(column, [(0, height - column.shape[0]), (0, _GAP), (0, 0)], constant_values=255)
        for column in columns
    ]
    return np.concatenate(padded, axis=1)[:, :-_GAP]


def picture_grid(pictures: Sequence[np.ndarray] | np.ndarray, columns: int) -> np.ndarray:
    """Puts pictures of one size in rows, white between them.

    Args:
      pictures: uint8 [H, W, C], C 1 or 3.
      columns: pictures a row.

    Returns:
      uint8 [H', W', 3]; small pictures are enlarged, pixel by pixel.
    """
    first = pictures[0]
    scale = max(1, round(_SHOWN_HEIGHT / 2 / first.shape[0]))
    height, width = (scale * size for size in first.shape[:2])
    rows = -(-len(pictures) // columns)
    shape = (rows * (height + _GAP) - _GAP, min(columns, len(pictures)) * (width + _GAP) - _GAP, 3)
    grid = np.full(shape, 255, np.uint8)
    for number, picture in enumerate(pictures):
        top, left = number // columns * (height + _GAP), number % columns * (width + _GAP)
        enlarged = np.repeat(np.repeat(_rgb(picture), scale, 0), scale, 1)
        grid[top : top + height, left : left + width] = enlarged
    return grid


def _rgb(picture: np.ndarray) -> np.ndarray:
    return np.repeat(picture, 3, axis=-1) if picture.shape[-1] == 1 else picture


def encode_png(picture: np.ndarray) -> bytes:
    """Makes a PNG file of uint8 [H, W, C], C 1 or 3."""
    buffer = io.BytesIO()
    Image.fromarray(picture[..., 0] if picture.shape[-1] == 1 else picture).save(buffer, "PNG")
    return buffer.getvalue()


def write_png(path: epath.Path, picture: np.ndarray) -> None:
    """Writes uint8 [H, W, C], C 1 or 3, as a PNG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode_png(picture))


def write_report(
    workdir: epath.Path,
    config: ExperimentConfig,
    step: int,
    pictures: Sequence[np.ndarray],
    reconstructions: Sequence[np.ndarray],
    counts: np.ndarray,
) -> dict[str, float]:
    """Writes report.md with the loss curve, the code use and the test pictures.

    Args:
      workdir: run directory.
      config: its configuration.
      step: updates made.
      pictures: uint8 test pictures.
      reconstructions: of them.
      counts: how often the test set used each code; may be empty.

    Returns:
      Means over the pictures, see `picture_figures`; nothing on all processes but the first, which writes.
    """
    if not is_main():
        return {}
    rows = read_metrics(workdir)
    figures, words = picture_figures(pictures, reconstructions)
    write_png(workdir / IMAGES / "final.png", comparison_grid(pictures, reconstructions))
    lines = [
        *_heading(workdir, config, step, rows, "reconstruction_loss"),
        "Test pictures, the original above its reconstruction:",
        "",
        f"![Reconstructions]({IMAGES}/final.png)",
        "",
        f"{words} on these pictures.",
        "",
    ]
    if counts.size:
        _plot_usage(workdir / IMAGES / "code-usage.png", counts)
        lines += [
            f"![Code use]({IMAGES}/code-usage.png)",
            "",
            f"{int(np.sum(counts > 0))} of {counts.size} codes are used on the test set.",
            "",
        ]
    (workdir / REPORT).write_text("\n".join(lines + _figures_table(rows)) + "\n")
    return figures


def write_prior_report(
    workdir: epath.Path, config: RunConfig, step: int, samples: np.ndarray, words: str
) -> dict[str, float]:
    """Writes report.md of a prior with the loss curve and pictures drawn from it.

    Args:
      workdir: run directory.
      config: its configuration.
      step: updates made.
      samples: uint8 [H, W, 3], a grid of pictures.
      words: what they are.

    Returns:
      No figures.
    """
    if not is_main():
        return {}
    rows = read_metrics(workdir)
    write_png(workdir / IMAGES / "final.png", samples)
    lines = [
        *_heading(workdir, config, step, rows, "loss"),
        words,
        "",
        f"![Samples]({IMAGES}/final.png)",
        "",
    ]
    (workdir / REPORT).write_text("\n".join(lines + _figures_table(rows)) + "\n")
    return {}


def _heading(
    workdir: epath.Path, config: RunConfig, step: int, rows: Sequence[dict[str, float]], loss: str
) -> list[str]:
    """Draws the loss curve; returns the lines that a report begins with."""
    _plot_losses(workdir / IMAGES / "loss.png", rows, loss)
    return [f"# {config.name}, {step} steps", "", f"![Loss]({IMAGES}/loss.png)", ""]


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
    """Means over pairs of uint8 pictures: `test/psnr` (decibel), `test/ssim` and, for pictures of at least
    31 px where its weights are installed, `test/lpips` (AlexNet); and the same in words."""
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
    except UserError:  # a run without a perceptual loss needs no weights of it
        return figures, f"{words} (LPIPS not measured: pip install vq-jax[lpips])"
    return figures, f"{words}, LPIPS (AlexNet) {figures['test/lpips']:.3f}"


def _plot_losses(path: epath.Path, rows: Sequence[dict[str, float]], loss: str) -> None:
    figure = _figure()
    axes = figure.add_subplot()
    for name, label in ((loss, "training"), ("validation/loss", "test set")):
        points = [(row["step"], row[name]) for row in rows if name in row]
        if points:
            axes.plot(*zip(*points, strict=True), label=label)
    axes.set(xlabel="step", ylabel=loss.replace("_", " "), yscale="log")
    axes.legend()
    _save(figure, path)


def _plot_usage(path: epath.Path, counts: np.ndarray) -> None:
    figure = _figure()
    axes = figure.add_subplot()
    share = np.sort(counts / max(counts.sum(), 1.0))[::-1]
    axes.fill_between(np.arange(counts.size), share, step="mid")
    axes.axhline(1.0 / counts.size, color="black", linewidth=0.8, label="all codes alike")
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
    path.write_bytes(buffer.getvalue())
