"""A prior of clips that continues held-out moving pictures: where they are in the frames that it draws.

The prior is given the first frames of clips of the source `moving-fashion`, whose pictures no run has seen,
and draws the others. In each drawn frame the two pictures are looked for (`evaluate.position_accuracy`), and
compared with where they are in truth. Beside it stand the last given frame, repeated, and the true frames
through the tokenizer's codes and back: what the prior could reach at best. PSNR is of the predicted frames.

Needs: pip install vq-jax, and runs: vq-jax train vqgan-moving-fashion; vq-jax train prior-moving-fashion
Run:   python experiments/benchmarks/video_prediction.py runs/prior-moving-fashion \
           --output experiments/benchmarks/results/video_prediction_cpu.json \
           --picture experiments/benchmarks/results/video_prediction.png
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from judging import machine

import vq_jax
from vq_jax.configs import DataConfig
from vq_jax.data import open_source
from vq_jax.data.moving_fashion import MovingFashion
from vq_jax.evaluate import position_accuracy, psnr
from vq_jax.runs.grids import comparison_grid, encode_png

SHOWN = 3  # clips of the picture


def held_out(frames: int, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Held-out clips uint8 [N, T, 64, 64, 1], their pictures [N, 2, 28, 28, 1] and corners [N, T, 2, 2]."""
    source = open_source("moving-fashion", "test", DataConfig(source="moving-fashion", frames=frames), 1)
    assert isinstance(source, MovingFashion)
    clips = np.stack([source[index]["image"] for index in range(count)])
    sprites = np.stack([source.sprites(index) for index in range(count)])
    return clips, sprites, np.stack([source.movement(index).corners for index in range(count)])


def row(
    name: str, frames: np.ndarray, truth: np.ndarray, sprites: np.ndarray, corners: np.ndarray
) -> dict[str, Any]:
    """The figures of predicted frames uint8 [N, T, H, W, 1], and of the last given one repeated."""
    pairs = zip(frames.reshape(-1, *frames.shape[2:]), truth.reshape(-1, *truth.shape[2:]), strict=True)
    return {
        "frames": name,
        "psnr": float(np.mean([psnr(one, other) for one, other in pairs])),
        **position_accuracy(frames, sprites, corners),
    }


def main() -> None:
    """Measures, and prints a line for each way to continue the clips."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", help="of a prior over codes of moving-fashion")
    parser.add_argument("--clips", type=int, default=200)
    parser.add_argument("--given", type=int, default=5)
    parser.add_argument("--frames", type=int, default=12)
    parser.add_argument("--steps", type=int, help="of masked sampling; those of the run when absent")
    parser.add_argument("--order", choices=("confidence", "halton"), help="of masked sampling")
    parser.add_argument("--temperature", type=float)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--picture", type=Path)
    arguments = parser.parse_args()
    prior = vq_jax.load_prior(arguments.run)
    clips, sprites, corners = held_out(arguments.given + arguments.frames, arguments.clips)
    given, truth = clips[:, : arguments.given], clips[:, arguments.given :]
    options = {name: getattr(arguments, name) for name in ("steps", "order", "temperature")}
    begin = time.perf_counter()
    predicted = np.concatenate(
        [
            prior.predict(given[first : first + 50], arguments.frames, seed=first, **options)
            for first in range(0, len(given), 50)
        ]
    )
    seconds = time.perf_counter() - begin
    through = prior.tokenizer.reconstruct(clips)[:, arguments.given :]
    rows = [
        row(name, frames, truth, sprites, corners)
        for name, frames in (("predicted", predicted), ("through the codes", through))
    ]
    repeated = np.broadcast_to(given[:, -1:], truth.shape)
    flat = (repeated.reshape(-1, *truth.shape[2:]), truth.reshape(-1, *truth.shape[2:]))
    last = {
        "frames": "last, repeated",
        "psnr": float(np.mean([psnr(one, other) for one, other in zip(*flat, strict=True)])),
        "positions": rows[0]["repeated_positions"],
    }
    for found in (*rows, last):
        right = f"first six frames right in {found['positions']:.1%}"
        print(f"{found['frames']:18} {found['psnr']:6.2f} dB  {right}")
    if arguments.output:
        figures = {
            "machine": machine(),
            "prior": prior.config.name,
            "step": prior.step,
            "clips": len(clips),
            "given": arguments.given,
            "options": {name: value for name, value in options.items() if value is not None},
            "seconds": seconds,
            "rows": [*rows, last],
        }
        arguments.output.write_text(json.dumps(figures, indent=1) + "\n")
    if arguments.picture:
        whole = np.concatenate([given, predicted], axis=1)
        arguments.picture.write_bytes(encode_png(comparison_grid([*clips[:SHOWN]], [*whole[:SHOWN]])))


if __name__ == "__main__":
    main()
