"""Two trained runs on the held-out photographs: PSNR, SSIM, LPIPS (AlexNet), and a picture of both.

Figures are of whole photographs; the picture shows a detail of each, enlarged three times, pixel by
pixel: the original, then both reconstructions.

Needs: pip install "vq-jax[lpips]", and the two runs: vq-jax train vqvae-photos; vq-jax train vqgan-photos
Run:   python experiments/benchmarks/vqvae_vs_vqgan.py runs/vqvae-photos runs/vqgan-photos \
           --picture vqvae_vs_vqgan.jpg --output vqvae_vs_vqgan.json
"""

import argparse
import json
from pathlib import Path

import numpy as np
from PIL import Image
from skimage import data

import vq_jax
from vq_jax.evaluate import lpips, psnr, ssim

# Held out of the training set, with the upper left corner of the detail shown.
PHOTOGRAPHS = {"chelsea": (60, 110), "coffee": (70, 190)}
DETAIL, ZOOM, GAP = 110, 3, 6


def detail(picture: np.ndarray, corner: tuple[int, int]) -> np.ndarray:
    """An enlarged square of a picture."""
    top, left = corner
    square = picture[top : top + DETAIL, left : left + DETAIL]
    return np.repeat(np.repeat(square, ZOOM, 0), ZOOM, 1)


def beside(pictures: list[np.ndarray]) -> np.ndarray:
    """Pictures of one height in a row."""
    gap = np.full((pictures[0].shape[0], GAP, 3), 255, np.uint8)
    row = [part for picture in pictures for part in (picture, gap)][:-1]
    return np.concatenate(row, axis=1)


def stacked(rows: list[np.ndarray]) -> np.ndarray:
    """Rows of pictures under each other, centred."""
    width = max(row.shape[1] for row in rows)
    padded = []
    for row in rows:
        left = (width - row.shape[1]) // 2
        sides = [(0, GAP), (left, width - row.shape[1] - left), (0, 0)]
        padded.append(np.pad(row, sides, constant_values=255))
    return np.concatenate(padded)[:-GAP]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs=2, type=Path)
    parser.add_argument("--picture", type=Path, help="JPEG to write")
    parser.add_argument("--output", type=Path, help="JSON to write")
    arguments = parser.parse_args()
    tokenizers = [vq_jax.load(run) for run in arguments.runs]
    rows: list[np.ndarray] = []
    figures: dict[str, dict[str, float]] = {tokenizer.config.name: {} for tokenizer in tokenizers}
    codes: dict[str, set[tuple[int, int]]] = {tokenizer.config.name: set() for tokenizer in tokenizers}
    for name, corner in PHOTOGRAPHS.items():
        original = getattr(data, name)()
        shown = [original]
        for tokenizer in tokenizers:
            run = tokenizer.config.name
            indices = tokenizer.encode(original[None])
            decoded = tokenizer.decode(indices, size=original.shape[:2])[0]
            depth = tokenizer.code_specs(original.shape[:2]).codes_per_position
            for stage, column in enumerate(indices.reshape(-1, depth).T):
                codes[run] |= {(stage, code) for code in column.tolist()}
            figures[run] |= {
                f"{name}/psnr": psnr(original, decoded),
                f"{name}/ssim": ssim(original, decoded),
                f"{name}/lpips_alex": lpips(original, decoded),
                f"{name}/codes_per_picture": float(indices.size),
            }
            shown.append(decoded)
        rows += [beside([detail(picture, corner) for picture in shown])]
    for run, values in figures.items():
        for figure in ("psnr", "ssim", "lpips_alex"):
            values[figure] = float(np.mean([values[f"{name}/{figure}"] for name in PHOTOGRAPHS]))
        values["codes_used"] = float(len(codes[run]))
        print(run, ", ".join(f"{figure} {value:.4g}" for figure, value in values.items()))
    if arguments.picture:
        Image.fromarray(stacked(rows)).save(arguments.picture, quality=88)
    if arguments.output:
        arguments.output.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
