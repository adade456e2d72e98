"""Trained tokenizers on a directory of pictures, beside JPEG and WebP at the same number of bits.

For each picture, whole: PSNR, SSIM, LPIPS (AlexNet) and bits a pixel. `bits_per_pixel` counts every code in
full, log2 of its codebook; `entropy_bits_per_pixel` is what an ideal coder needs that knows how often each
code occurs in this picture, with the codes of each group or stage by themselves. JPEG and WebP have the best
quality from 1 to 100 whose file is no larger than the codes in full; where even quality 1 is larger, its file
stands in, with its own bits.

Needs: pip install "vq-jax[lpips]", and trained runs or model directories
Run:   python experiments/benchmarks/tokenizer_quality.py PICTURES_DIR RUN... [--output quality.json] \
           [--picture quality.jpg]
"""

import argparse
import io
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from judging import machine
from PIL import Image

import vq_jax
from vq_jax.errors import UserError
from vq_jax.evaluate import lpips, psnr, ssim

FIGURES = ("psnr", "ssim", "lpips_alex", "bits_per_pixel", "entropy_bits_per_pixel")
WIDTH, GAP = 320, 4  # of the pictures in the sheet, px


def distances(original: np.ndarray, picture: np.ndarray) -> dict[str, float]:
    """PSNR, SSIM and LPIPS (AlexNet) of two pictures, uint8 [H, W, 3]."""
    return {
        "psnr": psnr(original, picture),
        "ssim": ssim(original, picture),
        "lpips_alex": lpips(original, picture),
    }


def entropy_bits(codes: np.ndarray) -> float:
    """Bits of all codes of one picture together, from the frequencies of the codes among them."""
    _, counts = np.unique(codes, return_counts=True)
    return float(-(counts * np.log2(counts / counts.sum())).sum())


def code_bits(specs: Any, codes: Any) -> tuple[float, float]:
    """Bits of one picture's codes: of all in full, and by their entropy.

    Args:
      specs: pytree of CodeSpec.
      codes: pytree of int [*s] or [*s, Q].
    """
    full = entropy = 0.0
    for spec, grid in zip(jax.tree.leaves(specs), jax.tree.leaves(codes), strict=True):
        full += grid.size * math.log2(spec.codebook_size)
        columns = grid.reshape(-1, spec.codes_per_position)
        entropy += sum(entropy_bits(column) for column in columns.T)
    return full, entropy


def coded(picture: np.ndarray, bits: float, file_format: str) -> tuple[np.ndarray, float]:
    """A picture through a JPEG or WebP file of at most `bits`, and the bits of that file."""

    def encode(quality: int) -> bytes:
        file = io.BytesIO()
        Image.fromarray(picture).save(file, file_format, quality=quality)
        return file.getvalue()

    low, high = 1, 100  # the best quality lies in [low, high], or is too large even at 1
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if 8 * len(encode(middle)) <= bits else (low, middle - 1)
    data = encode(low)
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB")), 8.0 * len(data)


def by_tokenizer(tokenizer: Any) -> Callable[[np.ndarray], tuple[np.ndarray, float, float]]:
    """A function of a picture to its reconstruction and the bits of its codes, in full and by entropy."""

    def through(picture: np.ndarray) -> tuple[np.ndarray, float, float]:
        codes = tokenizer.encode(picture[None])
        decoded = tokenizer.decode(codes, size=picture.shape[:2])[0]
        full, entropy = code_bits(
            tokenizer.code_specs(picture.shape[:2]), jax.tree.map(lambda x: x[0], codes)
        )
        return decoded, full, entropy

    return through


def measure(
    tokenizer: Any, pictures: dict[str, np.ndarray]
) -> tuple[dict[str, dict[str, dict[str, float]]], list[list[np.ndarray]]]:
    """Figures by coder and picture, the mean of each coder included, and rows of pictures to look at."""
    name = tokenizer.config.name
    figures: dict[str, dict[str, dict[str, float]]] = {name: {}, "jpeg": {}, "webp": {}}
    rows = []
    through = by_tokenizer(tokenizer)
    for title, picture in pictures.items():
        decoded, full, entropy = through(picture)
        results = {name: (decoded, full, entropy)}
        for coder in ("jpeg", "webp"):
            result, bits = coded(picture, full, coder)
            results[coder] = (result, bits, bits)
        for coder, (result, bits, least) in results.items():
            pixels = picture.shape[0] * picture.shape[1]
            figures[coder][title] = distances(picture, result) | {
                "bits_per_pixel": bits / pixels,
                "entropy_bits_per_pixel": least / pixels,
            }
        rows.append([picture, *(result for result, _, _ in results.values())])
    for values in figures.values():
        values["mean"] = {key: float(np.mean([row[key] for row in values.values()])) for key in FIGURES}
    return figures, rows


def read_pictures(directory: Path) -> dict[str, np.ndarray]:
    """The pictures in a directory by name, uint8 [H, W, 3].

    Raises:
      UserError: there are none.
    """
    endings = set(Image.registered_extensions())
    paths = sorted(path for path in directory.glob("*") if path.suffix.lower() in endings)
    if not paths:
        raise UserError(f"expected a directory with pictures, {directory} has none")
    return {path.stem: np.asarray(Image.open(path).convert("RGB")) for path in paths}


def write_sheet(path: Path, rows: Sequence[Sequence[np.ndarray]]) -> None:
    """Writes rows of pictures, each brought to the width of the sheet's columns."""
    lines = []
    for row in rows:
        height = round(row[0].shape[0] * WIDTH / row[0].shape[1])
        cells = [
            np.asarray(Image.fromarray(cell).resize((WIDTH, height), Image.Resampling.LANCZOS))
            for cell in row
        ]
        lines.append(np.concatenate([np.pad(cell, ((0, GAP), (0, GAP), (0, 0))) for cell in cells], axis=1))
    Image.fromarray(np.concatenate(lines)).save(path, quality=88)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pictures", type=Path, help="directory of pictures, PNG or the like")
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--output", type=Path, help="JSON to write")
    parser.add_argument("--picture", type=Path, help="JPEG of all pictures to write, of the last run")
    arguments = parser.parse_args()
    pictures = read_pictures(arguments.pictures)
    results: dict[str, Any] = {}
    rows: list[list[np.ndarray]] = []
    for run in arguments.runs:
        tokenizer = vq_jax.load_tokenizer(run)
        figures, rows = measure(tokenizer, pictures)
        results[tokenizer.config.name] = figures
        for coder, values in figures.items():
            print(coder, ", ".join(f"{key} {value:.4g}" for key, value in values["mean"].items()), flush=True)
    if arguments.output:
        arguments.output.write_text(json.dumps({"machine": machine(), "runs": results}, indent=2) + "\n")
    if arguments.picture:
        write_sheet(arguments.picture, rows)


if __name__ == "__main__":
    main()
