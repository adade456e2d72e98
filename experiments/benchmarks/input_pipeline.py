"""Training pictures a second from a folder of JPEG files: ours against PyTorch's DataLoader, taking turns.

The same work on both sides, with the same decoder (Pillow): a file is read and decoded, a square of it, as
large as if the short side had a random length from 256 to 512 px, is cut out at a random place, resized to
256 px (bicubic, antialiased), mirrored or not, and 32 of them are a batch of uint8. The files are cut out of
the photographs that come with scikit-image: 500 x 375 px, as ImageNet's usually are, and sheets of nine of
those, 1500 x 1125 px, as cameras make them; of these also with JPEG files decoded at a part of their size
(data.scaled_decoding), and how far that is from decoding them whole.

Needs: pip install "vq-jax[parity]"
Run:   python experiments/benchmarks/input_pipeline.py --output input_pipeline.json
"""

import argparse
import functools
import json
import random
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import turns
from PIL import Image

from vq_jax import data
from vq_jax.configs import DataConfig
from vq_jax.data import folder as folders

SIZE, BATCH = 256, 32
SHEET = 3  # photographs along each side of a large picture
WIDTH, HEIGHT = 500, 375


def photograph(sources: list[np.ndarray], rng: np.random.Generator) -> Image.Image:
    """A part of a photograph, 500 x 375 px."""
    source = sources[rng.integers(len(sources))]
    height, width, _ = source.shape
    part = rng.uniform(0.6, 1.0) * min(width / WIDTH, height / HEIGHT)
    across, down = part * WIDTH, part * HEIGHT
    left, top = rng.uniform(0, width - across), rng.uniform(0, height - down)
    box = (left, top, left + across, top + down)
    return Image.fromarray(source).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC, box)


def write_pictures(folder: Path, count: int, sheet: int, seed: int) -> None:
    """Writes JPEG files into `folder`/train, and two into `folder`/test."""
    opened = [data.open_source("photos", split, DataConfig(), 3) for split in ("train", "test")]
    photographs = [source[number]["image"] for source in opened for number in range(len(source))]
    rng = np.random.default_rng(seed)
    for number in range(count + 2):
        picture = Image.new("RGB", (sheet * WIDTH, sheet * HEIGHT))
        for place in range(sheet * sheet):
            corner = (place % sheet * WIDTH, place // sheet * HEIGHT)
            picture.paste(photograph(photographs, rng), corner)
        split = folder / ("train" if number < count else "test")
        split.mkdir(parents=True, exist_ok=True)
        picture.save(split / f"{number:04}.jpg", quality=90)


def open_train(pipeline: DataConfig) -> data.Source:
    """The files to train on; nothing decoded is kept in memory."""
    folders._CACHE_BYTES = 0
    return data.open_source(pipeline.source, "train", pipeline, 3)


def config(folder: Path, workers: int, scaled: bool) -> DataConfig:
    """The pipeline that is measured."""
    return DataConfig(
        source=f"folder:{folder}",
        batch_size=BATCH,
        image_size=SIZE,
        resize="random",
        num_workers=workers,
        scaled_decoding=scaled,
    )


def ours(workers: int, scaled: bool, folder: Path, batches: int) -> Callable[[], None]:
    """Makes a function that takes batches of our pipeline."""
    pipeline = config(folder, workers, scaled)
    stream = data.train_batches(open_train(pipeline), pipeline, seed=0, copy=False)  # as a run does

    def take() -> None:
        for _ in range(batches):
            batch = next(stream)["image"]
            assert batch.shape == (BATCH, SIZE, SIZE, 3) and batch.dtype == np.uint8

    return take


def in_torch(workers: int, folder: Path, batches: int) -> Callable[[], None]:
    """Makes a function that takes batches of PyTorch's DataLoader."""
    import torch

    class Pictures(torch.utils.data.Dataset[Any]):
        def __init__(self) -> None:
            self.paths = sorted(map(str, (folder / "train").iterdir()))

        def __len__(self) -> int:
            return len(self.paths)

        def __getitem__(self, index: int) -> Any:
            with Image.open(self.paths[index]) as image:
                width, height = image.size
                short = min(width, height)
                side = round(short * SIZE / random.randint(SIZE, 2 * SIZE))
                left, top = random.randint(0, width - side), random.randint(0, height - side)
                square = image.crop((left, top, left + side, top + side)).convert("RGB")
            square = square.resize((SIZE, SIZE), Image.Resampling.BICUBIC, reducing_gap=3.0)
            if random.random() < 0.5:
                square = square.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
            return torch.from_numpy(np.array(square))

    pictures = Pictures()
    loader = torch.utils.data.DataLoader(
        pictures,
        batch_size=BATCH,
        sampler=torch.utils.data.RandomSampler(pictures, num_samples=10**7),  # epoch after epoch
        num_workers=workers,
        drop_last=True,
        multiprocessing_context="fork" if workers else None,
    )
    stream = iter(loader)

    def take() -> None:
        for _ in range(batches):
            batch = next(stream)
            assert batch.shape == (BATCH, SIZE, SIZE, 3) and batch.dtype == torch.uint8

    return take


def compare(
    workers: tuple[int, int], scaled: bool, folder: Path, batches: int, rounds: int
) -> dict[str, Any]:
    """Pictures a second of ours and PyTorch's, with their numbers of workers, in turn.

    Each takes as many batches before as it is timed for: a side that waits for its turn fills its buffers.
    """
    sides = functools.partial(ours, workers[0], scaled), functools.partial(in_torch, workers[1])
    result = turns.compare(*sides, (folder, batches), rounds, settle=1)
    for name in ("ours", "torch"):
        result[f"{name}_pictures_per_second"] = batches * BATCH / result.pop(f"{name}_seconds")
    workers_of = {"ours_workers": workers[0], "torch_workers": workers[1]}
    return workers_of | {"scaled_decoding": scaled} | result


def compare_all(
    name: str, folder: Path, number_of_workers: list[int], **turns_of: int
) -> list[dict[str, Any]]:
    """Rows of one folder: the same number of workers in both, then the best of each, then scaled decoding."""
    rows: list[dict[str, Any]] = []

    def add(kind: str, workers: tuple[int, int], scaled: bool) -> None:
        rows.append({"files": name, "kind": kind} | compare(workers, scaled, folder, **turns_of))
        print(json.dumps(rows[-1]), flush=True)

    for workers in number_of_workers:
        add("same workers", (workers, workers), scaled=False)
    best = [
        max(rows, key=lambda row, side=side: row[f"{side}_pictures_per_second"])[f"{side}_workers"]
        for side in ("ours", "torch")
    ]
    for scaled in (False, True):
        add("best of each", (best[0], best[1]), scaled)
    return rows


def psnr_of_scaled(folder: Path, batches: int = 4) -> dict[str, float]:
    """How far squares are from those of files decoded whole: PSNR in dB of those that differ."""
    streams = []
    for scaled in (True, False):
        pipeline = config(folder, 0, scaled)
        with data.train_batches(open_train(pipeline), pipeline, seed=0) as stream:
            streams.append(np.concatenate([next(stream)["image"] for _ in range(batches)]))
    scaled, whole = (pictures.astype(np.float64) for pictures in streams)
    errors = np.mean((scaled - whole) ** 2, axis=(1, 2, 3))
    psnr = 10 * np.log10(255**2 / errors[errors > 0])
    return {
        "share_of_pictures": len(psnr) / len(errors),
        "psnr_median": float(np.median(psnr)),
        "psnr_lowest": float(psnr.min()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--pictures", type=int, default=300, help="files of each size")
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--batches", type=int, default=24, help="in a turn")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", type=Path, help="JSON to write")
    arguments = parser.parse_args()
    report = turns.machine("cpu") | {"batch": BATCH, "size": SIZE, "pictures": arguments.pictures, "rows": []}
    turns_of = {"batches": arguments.batches, "rounds": arguments.rounds}
    with tempfile.TemporaryDirectory() as place:
        for sheet in (1, SHEET):
            name, folder = f"{sheet * WIDTH} x {sheet * HEIGHT}", Path(place) / f"{sheet}"
            write_pictures(folder, arguments.pictures, sheet, seed=0)
            report["rows"] += compare_all(name, folder, arguments.workers, **turns_of)
        report["scaled_decoding"] = {"files": name} | psnr_of_scaled(folder)
        print(json.dumps(report["scaled_decoding"]))
    for row in report["rows"]:
        if row["kind"] == "best of each":
            decoding = "scaled" if row["scaled_decoding"] else "whole"
            print(f"{row['files']} px, {decoding} decoding: {row['speedup']:.2f} times PyTorch's pictures/s")
    if arguments.output:
        arguments.output.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
