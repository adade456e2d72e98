"""Restoration of degraded pictures: classical methods, and trained runs beside them at three fidelities.

Each picture, whole, is degraded by a fixed seed and restored; PSNR, SSIM and LPIPS (AlexNet) compare the
result with the picture. The classical methods get what a run has to find out (the noise's standard
deviation, the kernel of a blur), and of their settings those with the best mean PSNR on these very pictures.
A run is measured on the tasks with the degradation that it learnt. BM3D, OpenCV and wavelets are measured
where bm3d, opencv-python-headless and PyWavelets are installed.

Needs: pip install "vq-jax[lpips]"
Run:   python experiments/benchmarks/restoration.py PICTURES_DIR [RUN...] [--tasks noise-25 jpeg-10] \
           [--output restoration.json] [--sheet restoration.png]
"""

import argparse
import dataclasses
import functools
import importlib.util
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from judging import machine
from PIL import Image, ImageDraw
from skimage import restoration
from tokenizer_quality import distances, read_pictures

import vq_jax
from vq_jax.configs.degradations import (
    DegradationConfig,
    DiskBlurConfig,
    DownscaleConfig,
    GaussianBlurConfig,
    GaussianNoiseConfig,
    GreyConfig,
    JpegConfig,
    MixConfig,
    MotionBlurConfig,
)
from vq_jax.data.degrade import degrade, disk_kernel, line_kernel
from vq_jax.errors import UserError, nearest_names
from vq_jax.evaluate import psnr

FIGURES = ("psnr", "ssim", "lpips_alex")
FIDELITIES = (0.0, 0.5, 1.0)
SIGMA = 25.0  # of the noise
EDGE = 32  # px that a picture is continued by, mirrored, for deconvolution, which takes it to be periodic
CROP, SHOWN, GAP = 128, 3, 4  # px of a cell of the sheet, pictures of a task, px between cells

Restore = Callable[[np.ndarray, np.random.Generator], np.ndarray]
"""From a degraded picture uint8 [h, w, 3] and the generator that degraded it, anew, to uint8 [H, W, 3]."""


@dataclasses.dataclass(frozen=True)
class Task:
    """A degradation, and classical methods by name, each with all settings that are tried."""

    degradation: DegradationConfig
    methods: dict[str, list[Restore]]


def unchanged(picture: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    return picture


def enlarged(
    picture: np.ndarray, generator: np.random.Generator, *, factor: int, how: Image.Resampling
) -> np.ndarray:
    size = picture.shape[1] * factor, picture.shape[0] * factor
    return np.asarray(Image.fromarray(picture).resize(size, how))


def non_local_means(picture: np.ndarray, generator: np.random.Generator, *, strength: float) -> np.ndarray:
    sigma = SIGMA / 255
    options: Any = {"patch_size": 5, "patch_distance": 8, "channel_axis": -1}
    return written(
        restoration.denoise_nl_means(
            picture / 255, h=strength * sigma, sigma=sigma, fast_mode=True, **options
        )
    )


def total_variation(picture: np.ndarray, generator: np.random.Generator, *, weight: float) -> np.ndarray:
    return written(restoration.denoise_tv_chambolle(picture / 255, weight=weight, channel_axis=-1))


def wavelets(
    picture: np.ndarray, generator: np.random.Generator, *, method: str, ycbcr: bool, sigma: float | None
) -> np.ndarray:
    options: Any = {"method": method, "convert2ycbcr": ycbcr, "sigma": sigma, "channel_axis": -1}
    return written(restoration.denoise_wavelet(picture / 255, rescale_sigma=True, **options))


def opencv_means(picture: np.ndarray, generator: np.random.Generator, *, strength: float) -> np.ndarray:
    import cv2

    turned = np.ascontiguousarray(picture[..., ::-1])
    return cv2.fastNlMeansDenoisingColored(turned, None, strength, strength, 7, 21)[..., ::-1]


def block_matching(picture: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    import bm3d

    return written(bm3d.bm3d_rgb(picture / 255, SIGMA / 255))


def deconvolved(
    picture: np.ndarray,
    generator: np.random.Generator,
    *,
    kernel: Callable[[np.random.Generator], np.ndarray],
    rounds: int | None,
) -> np.ndarray:
    """By Richardson and Lucy in so many rounds, or by an unsupervised Wiener filter."""
    weights = kernel(generator).astype(float)
    whole = np.pad(picture / 255, [(EDGE, EDGE), (EDGE, EDGE), (0, 0)], mode="symmetric")

    def one(channel: np.ndarray) -> np.ndarray:
        if rounds is not None:
            return restoration.richardson_lucy(channel, weights, num_iter=rounds)
        return restoration.unsupervised_wiener(channel, weights, rng=0)[0]

    result = np.stack([one(channel) for channel in np.moveaxis(whole, -1, 0)], axis=-1)
    return written(result[EDGE:-EDGE, EDGE:-EDGE])


def written(picture: np.ndarray) -> np.ndarray:
    """A picture in [0, 1] as uint8."""
    return np.clip(np.rint(picture * 255), 0, 255).astype(np.uint8)


def gaussian_kernel(sigma: float) -> np.ndarray:
    places = np.arange(-round(4 * sigma), round(4 * sigma) + 1)
    weights = np.exp(-0.5 * np.square(places / sigma))
    return np.outer(weights, weights) / weights.sum() ** 2


def enlarging(factor: int) -> dict[str, list[Restore]]:
    filters = {"bicubic": Image.Resampling.BICUBIC, "lanczos": Image.Resampling.LANCZOS}
    return {
        name: [functools.partial(enlarged, factor=factor, how=how)]
        for name, how in (filters.items() if factor > 1 else ())
    } or {"input": [unchanged]}


def denoising() -> dict[str, list[Restore]]:
    shrinks = [
        (method, ycbcr, sigma)
        for method in ("BayesShrink", "VisuShrink")
        for ycbcr in (False, True)
        for sigma in (SIGMA / 255, SIGMA / 510, None)
    ]
    return {
        "input": [unchanged],
        "non-local means": [functools.partial(non_local_means, strength=h) for h in (0.4, 0.6, 0.8, 1.0)],
        "total variation": [functools.partial(total_variation, weight=w) for w in (0.05, 0.08, 0.12, 0.16)],
        "wavelets": [
            functools.partial(wavelets, method=method, ycbcr=ycbcr, sigma=sigma)
            for method, ycbcr, sigma in shrinks
        ],
        "opencv non-local means": [functools.partial(opencv_means, strength=h) for h in (8, 12, 16, 22)],
        "bm3d": [block_matching],
    }


def deblurring(kernel: Callable[[np.random.Generator], np.ndarray]) -> dict[str, list[Restore]]:
    restore = functools.partial(deconvolved, kernel=kernel)
    return {
        "input": [unchanged],
        "unsupervised wiener": [functools.partial(restore, rounds=None)],
        "richardson-lucy": [functools.partial(restore, rounds=rounds) for rounds in (5, 10, 20, 40)],
    }


def moved(generator: np.random.Generator) -> np.ndarray:
    """The kernel that `degrade` draws for a line of 11 px."""
    return line_kernel(generator.uniform(11.0, 11.0), generator.uniform(0, np.pi))


TASKS: dict[str, Task] = {
    "downscale-2": Task(DownscaleConfig(2), enlarging(2)),
    "downscale-4": Task(DownscaleConfig(4), enlarging(4)),
    "noise-25": Task(GaussianNoiseConfig((SIGMA, SIGMA)), denoising()),
    "jpeg-10": Task(
        JpegConfig((10, 10)),
        {
            "input": [unchanged],
            "total variation": [
                functools.partial(total_variation, weight=weight) for weight in (0.01, 0.02, 0.04, 0.06)
            ],
        },
    ),
    "gaussian-blur-2": Task(GaussianBlurConfig((2.0, 2.0)), deblurring(lambda _: gaussian_kernel(2.0))),
    "motion-blur-11": Task(MotionBlurConfig((11.0, 11.0)), deblurring(moved)),
    "disk-blur-3": Task(DiskBlurConfig((3.0, 3.0)), deblurring(lambda _: disk_kernel(3.0))),
    "grey": Task(GreyConfig(), {"input": [unchanged]}),
    "mix": Task(
        MixConfig(),
        {
            "input": [unchanged],
            "total variation": [
                functools.partial(total_variation, weight=weight) for weight in (0.02, 0.05, 0.1)
            ],
        },
    ),
}
PACKAGES = {"wavelets": "pywt", "opencv non-local means": "cv2", "bm3d": "bm3d"}


def tasks_of(degradation: DegradationConfig) -> dict[str, Task]:
    """The tasks that a run which learnt a degradation is measured on: fixed ones like it, or its own."""
    like = {
        name: task
        for name, task in TASKS.items()
        if type(task.degradation) is type(degradation) and task.degradation.scale == degradation.scale
    }
    own = f"{degradation.name}-{degradation.scale}" if degradation.scale > 1 else degradation.name
    return like or {own: Task(degradation, enlarging(degradation.scale))}


def of_run(trained: Any) -> dict[str, Restore]:
    """What restores in a run, by name: a restorer at each fidelity it has, or a tokenizer that learnt to."""
    name = trained.config.name
    if not hasattr(trained, "restore"):
        return {name: lambda picture, _: trained.reconstruct(picture[None])[0]}

    def at(fidelity: float) -> Restore:
        return lambda picture, _: np.asarray(trained.restore([picture], fidelity=fidelity)[0])

    ends = trained.fidelities
    fidelities = [fidelity for fidelity in FIDELITIES if ends[0] <= fidelity <= ends[-1]]
    return {f"{name} fidelity {fidelity:g}": at(fidelity) for fidelity in fidelities}


def measure(
    task: Task, originals: dict[str, np.ndarray], runs: dict[str, Restore]
) -> tuple[dict[str, Any], dict[str, list[np.ndarray]]]:
    """Figures by method, mean and by picture; and the pictures: given, original and of each method."""
    scale = task.degradation.scale
    pictures = {
        name: picture[: picture.shape[0] // scale * scale, : picture.shape[1] // scale * scale]
        for name, picture in originals.items()
    }
    seeds = range(len(pictures))
    given = [
        degrade(picture, task.degradation, np.random.default_rng(seed))
        for seed, picture in zip(seeds, pictures.values(), strict=True)
    ]
    figures: dict[str, Any] = {}
    results = {"given": given, "original": list(pictures.values())}
    for name, settings in {**task.methods, **{name: [restore] for name, restore in runs.items()}}.items():
        package = PACKAGES.get(name)
        if package is not None and importlib.util.find_spec(package) is None:
            print(f"{name}: not measured, {package} is not installed", flush=True)
            continue
        best = -np.inf
        for restore in settings:
            restored = [
                restore(picture, np.random.default_rng(seed))
                for seed, picture in zip(seeds, given, strict=True)
            ]
            pairs = zip(pictures.values(), restored, strict=True)
            mean = np.mean([psnr(picture, result) for picture, result in pairs])
            if mean > best:
                best, results[name] = mean, restored
        pairs = zip(pictures.items(), results[name], strict=True)
        rows = {title: distances(picture, result) for (title, picture), result in pairs}
        figures[name] = {
            "mean": {key: float(np.mean([row[key] for row in rows.values()])) for key in FIGURES},
            "pictures": rows,
        }
    return figures, results


def best_of(figures: dict[str, Any], names: Sequence[str]) -> str:
    """The method with the best mean PSNR."""
    return max((name for name in names if name in figures), key=lambda name: figures[name]["mean"]["psnr"])


def sheet_rows(title: str, shown: dict[str, list[np.ndarray]]) -> np.ndarray:
    """The middle of the first pictures, a row each, under a line that names the columns."""
    width = len(shown) * (CROP + GAP)
    head = Image.new("RGB", (width, 28), "white")
    for number, name in enumerate(shown):
        text = f"{title}\n{name}" if not number else f"\n{name}"
        ImageDraw.Draw(head).multiline_text((number * (CROP + GAP), 1), text[:60], fill="black", spacing=0)
    rows = [np.asarray(head)]
    for row in range(min(SHOWN, len(shown["original"]))):
        height, wide, _ = shown["original"][row].shape
        top, left = (height - CROP) // 16 * 8, (wide - CROP) // 16 * 8
        cells = []
        for pictures in shown.values():
            factor = height // pictures[row].shape[0]
            whole = np.repeat(np.repeat(pictures[row], factor, 0), factor, 1)
            cell = whole[top : top + CROP, left : left + CROP]
            cells.append(np.pad(cell, ((0, GAP), (0, GAP), (0, 0)), constant_values=255))
        rows.append(np.concatenate(cells, axis=1))
    return np.concatenate(rows)


def chosen_tasks(names: Sequence[str], runs: Sequence[Any]) -> dict[str, Task]:
    """The tasks of these names; without names those of the runs, and without runs all.

    Raises:
      UserError: a name is not known.
    """
    for name in names:
        if name not in TASKS:
            raise UserError(f"unknown task {name!r}{nearest_names(name, TASKS)} (known: {', '.join(TASKS)})")
    if names:
        return {name: TASKS[name] for name in names}
    found = [tasks_of(trained.config.data.degradation) for trained in runs]
    return {name: task for tasks in found for name, task in tasks.items()} if runs else TASKS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pictures", type=Path, help="directory of pictures, PNG or the like")
    parser.add_argument("runs", nargs="*", type=Path)
    parser.add_argument("--tasks", nargs="+", default=[], help=", ".join(TASKS))
    parser.add_argument("--output", type=Path, help="JSON to write")
    parser.add_argument("--sheet", type=Path, help="PNG of crops to write")
    arguments = parser.parse_args()
    pictures = read_pictures(arguments.pictures)
    runs = [vq_jax.load(run) for run in arguments.runs]
    report: dict[str, Any] = {}
    blocks: list[np.ndarray] = []
    for title, task in chosen_tasks(arguments.tasks, runs).items():
        fitting = [trained for trained in runs if title in tasks_of(trained.config.data.degradation)]
        ours = {name: restore for trained in fitting for name, restore in of_run(trained).items()}
        report[title], results = measure(task, pictures, ours)
        print(f"\n| {title} | PSNR, dB | SSIM | LPIPS |\n|---|---|---|---|")
        for name, values in report[title].items():
            mean = values["mean"]
            print(
                f"| {name} | {mean['psnr']:.2f} | {mean['ssim']:.3f} | {mean['lpips_alex']:.3f} |", flush=True
            )
        best = best_of(report[title], list(task.methods))
        columns = ["given", *([] if best == "input" else [best]), *ours, "original"]
        blocks.append(sheet_rows(title, {name: results[name] for name in columns}))
        if arguments.output:
            arguments.output.write_text(json.dumps({"machine": machine(), "tasks": report}, indent=2) + "\n")
    if arguments.sheet:
        width = max(block.shape[1] for block in blocks)
        padded = [
            np.pad(block, ((0, 0), (0, width - block.shape[1]), (0, 0)), constant_values=255)
            for block in blocks
        ]
        Image.fromarray(np.concatenate(padded)).save(arguments.sheet)


if __name__ == "__main__":
    main()
