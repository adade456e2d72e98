"""Trained tokenizers of moving-fashion on held-out clips: PSNR, flicker, bits a pixel, and strips to look at.

The question is what codes that know the frames before are worth beside frames that are encoded one by one, at
as many bits, by networks of like size that were trained for as long on the same processor. `psnr`
is the mean over frames, as runs log it, `psnr_clip` that of a clip's mean squared error, in which its worst
frames weigh more, and flicker is `evaluate.temporal_flicker`; all are means over the clips.
`seconds` are those of the training steps, without compilation and evaluation, as the run logged them.

Needs: trained runs on moving-fashion, 17 frames, for instance
         vq-jax train vqgan-moving-fashion
         vq-jax train vqvae-moving-fashion-frames
Run:   python experiments/benchmarks/video_tokenizers.py RUN... [--output FILE.json] [--picture FILE.png]
"""

import argparse
import json
import math
from pathlib import Path
from typing import Any

import jax
import numpy as np
from judging import machine
from PIL import Image

import vq_jax
from vq_jax import ops
from vq_jax.configs import DataConfig
from vq_jax.data import open_source
from vq_jax.evaluate import temporal_flicker

FRAMES, CLIPS, BATCH = 17, 128, 16
SHOWN, EVERY = 3, 2  # clips in the picture, and frames from one to the next


def held_out(count: int) -> np.ndarray:
    """Held-out clips, uint8 [count, T, 64, 64, 1]."""
    source = open_source("moving-fashion", "test", DataConfig(source="moving-fashion", frames=FRAMES), 1)
    return np.stack([source[number]["image"] for number in range(count)])


def bits_a_clip(tokenizer: Any, clips: np.ndarray) -> float:
    """Bits of one clip's codes, log2 of the codebook each."""
    specs = jax.tree.leaves(tokenizer.code_specs(clips.shape[1:-1]))
    return sum(math.prod(spec.array_shape) * math.log2(spec.codebook_size) for spec in specs)


def training(run: Path) -> dict[str, float]:
    """Steps and seconds of a run, from its log."""
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    rows = [row for row in rows if "time/step_seconds" in row]
    steps = [row["step"] for row in rows]
    spans = np.diff([0, *steps])
    return {
        "steps": steps[-1],
        "seconds": float(sum(span * row["time/step_seconds"] for span, row in zip(spans, rows, strict=True))),
    }


def measure(tokenizer: Any, clips: np.ndarray) -> tuple[dict[str, float], np.ndarray]:
    """Figures over all clips, and the reconstructions of those that are shown, uint8."""
    reconstructed = np.concatenate(
        [tokenizer.reconstruct(clips[first : first + BATCH]) for first in range(0, len(clips), BATCH)]
    )
    errors = (reconstructed.astype(np.float64) - clips) ** 2
    flicker = temporal_flicker(ops.normalize_pictures(reconstructed), ops.normalize_pictures(clips))
    bits = bits_a_clip(tokenizer, clips)
    figures = {
        "psnr": float(np.mean(10 * np.log10(255**2 / errors.mean((2, 3, 4))))),
        "psnr_clip": float(np.mean(10 * np.log10(255**2 / errors.mean((1, 2, 3, 4))))),
        "psnr_first_frame": float(np.mean(10 * np.log10(255**2 / errors[:, 0].mean((1, 2, 3))))),
        "flicker": float(np.mean(flicker)),
        "bits_a_clip": bits,
        "bits_per_pixel": bits / math.prod(clips.shape[1:-1]),
    }
    return figures, reconstructed[:SHOWN]


def strip(clip: np.ndarray) -> np.ndarray:
    """Every second frame of a clip, side by side, uint8 [H, W]."""
    return np.concatenate(list(clip[::EVERY, ..., 0]), axis=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--output", type=Path, help="JSON to write")
    parser.add_argument("--picture", type=Path, help="PNG to write: clips, and below each every run's")
    arguments = parser.parse_args()
    clips = held_out(CLIPS)
    results: dict[str, dict[str, float]] = {}
    shown = [clips[:SHOWN]]
    for run in arguments.runs:
        figures, some = measure(vq_jax.load_tokenizer(run), clips)
        results[run.name] = figures | training(run)
        shown.append(some)
        print(run.name, ", ".join(f"{name} {value:.4g}" for name, value in results[run.name].items()))
    if arguments.output:
        arguments.output.write_text(json.dumps({"machine": machine(), "runs": results}, indent=2) + "\n")
    if arguments.picture:
        rows = [strip(of_run[number]) for number in range(SHOWN) for of_run in shown]
        Image.fromarray(np.concatenate(rows)).save(arguments.picture)


if __name__ == "__main__":
    main()
