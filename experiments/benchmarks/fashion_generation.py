"""Priors over Fashion-MNIST, judged by a classifier: Frechet distance of its features, classes, and speed.

A small CNN, trained on the 8,000 training pictures in the package, sees pictures of each run:
- F-FID: the Frechet distance of its features (64 wide) between these pictures and the 2,000 held out;
- accuracy: the share in which it sees the class that was asked for, or, of real pictures, their label.
Samples are drawn as the run's `sampling` says, as many of each class. Beside them stand the floors: training
pictures (the first of each class), and the held-out ones through the run's tokenizer and back. A run of a
tokenizer has that last row alone. The distance falls with the number of pictures: compare rows of as many,
judged by the same classifier (--classifier keeps it; its hash is in the JSON).

Training seconds are those of the run's steps, without evaluations and saving. Seconds a picture are medians
of calls of `Prior.sample`, decoding included, after one that compiles.

Needs: pip install vq-jax, and a run: vq-jax train vqgan-fashion; vq-jax train prior-fashion
Run:   python experiments/benchmarks/fashion_generation.py runs/prior-fashion \
           --output experiments/benchmarks/results/fashion_generation.json \
           --pictures experiments/benchmarks/results
"""

import argparse
import dataclasses
import json
import statistics
import time
from pathlib import Path
from typing import Any

import judging
import numpy as np

import vq_jax
from vq_jax.errors import UserError
from vq_jax.pretrained.prior import Prior
from vq_jax.pretrained.tokenizer import Tokenizer
from vq_jax.runs.rundir import read_metrics

CLASSES, SHOWN = 10, 8
COLUMNS = {  # keys of a row, and their heads
    "pictures": "pictures",
    "f_fid": "F-FID",
    "accuracy": "accuracy",
    "training_seconds": "training, s",
    "seconds_a_picture_64": "s a picture, 64 at once",
    "seconds_a_picture_1": "s a picture, one",
}
Row = dict[str, Any]


class Judge:
    """The classifier, and the held-out pictures that others are compared with."""

    def __init__(self, params: judging.Params, images: np.ndarray, labels: np.ndarray) -> None:
        self.params, self.images, self.labels = params, images, labels
        _, self.features = judging.classify(params, images)

    def row(self, name: str, images: np.ndarray, labels: np.ndarray | None) -> Row:
        """The figures of some pictures; without labels, no accuracy."""
        classes, features = judging.classify(self.params, images)
        row = {
            "pictures": name,
            "number": len(images),
            "f_fid": judging.frechet_distance(features, self.features),
        }
        if labels is not None:
            row["accuracy"] = float(np.mean(classes == labels))
        return row


def training_floor(judge: Judge, num: int) -> Row:
    """The first training pictures of each class, `num` in all. The classifier has learnt their labels."""
    images, labels = judging.fashion("train")
    first = np.concatenate([np.flatnonzero(labels == c)[: num // CLASSES] for c in range(CLASSES)])
    return judge.row("training pictures", images[first], None)


def reconstructed(judge: Judge, tokenizer: Tokenizer) -> Row:
    """The held-out pictures through the codes and back."""
    parts = judging.batches(len(judge.images), 250)
    images = np.concatenate([tokenizer.reconstruct(judge.images[rows]) for rows in parts])
    return judge.row(f"held out, through {tokenizer.config.name}", images[: len(judge.images)], judge.labels)


def sampled(judge: Judge, name: str, prior: Prior, num: int, seed: int) -> tuple[Row, np.ndarray]:
    """Samples of a prior, each class in turn; returns the samples too."""
    labels = None if prior.num_classes is None else np.arange(num) % CLASSES
    images = prior.sample(num, labels=labels, seed=seed, progress=True)
    return judge.row(f"samples of {name}", images, labels), images


def seconds_a_picture(prior: Prior, batch: int, calls: int = 5) -> float:
    """Median time of drawing a batch, over its size."""
    took = []
    for number in range(1 + calls):
        began = time.perf_counter()
        prior.sample(batch, seed=number, batch_size=batch)
        took.append(time.perf_counter() - began)
    return statistics.median(took[1:]) / batch


def training_seconds(run: Path) -> float:
    """Time of a run's steps: each row of metrics.jsonl tells the mean of those since the row before."""
    total, before = 0.0, 0.0
    for row in read_metrics(run):
        if "time/step_seconds" in row:
            total += row["time/step_seconds"] * (row["step"] - before)
            before = row["step"]
    return total


def load(run: Path) -> Prior | Tokenizer:
    """Loads a run over the pictures that are judged here.

    Raises:
      UserError: it is no run, or its pictures are others. (A run on tfds:fashion_mnist has been trained on
        those that are held out here.)
    """
    loaded = vq_jax.load(run)
    if isinstance(loaded, Prior):
        data = loaded.config.data.resolve(loaded.tokenizer.config.data)
    else:
        data = loaded.config.data
    if data.source != "fashion" or data.image_size != 28:
        raise UserError(
            f"expected a run on the Fashion-MNIST pictures of the package (--data fashion, 28 px), {run} is "
            f"of {data.source}, {data.image_size} px"
        )
    return loaded


def table(rows: list[Row]) -> str:
    """The rows in markdown."""
    lines = [list(COLUMNS.values()), ["---", *["---:"] * (len(COLUMNS) - 1)]]
    for row in rows:
        cells = [row.get(key, "") for key in COLUMNS]
        lines.append([f"{cell:.4g}" if isinstance(cell, float) else str(cell) for cell in cells])
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="run directory, of a prior")
    parser.add_argument("--num", type=int, default=2000, help="samples of a run, a multiple of ten")
    parser.add_argument("--seed", type=int, default=0, help="of the samples")
    parser.add_argument("--classifier", type=Path, metavar="FILE.npz", help="trained and kept when absent")
    parser.add_argument("--output", type=Path, help="JSON to write, with a markdown table beside it")
    parser.add_argument("--pictures", type=Path, metavar="DIR", help="where a PNG of samples of a run goes")
    arguments = parser.parse_args()
    names = [run.resolve().name for run in arguments.runs]
    if not CLASSES <= arguments.num <= 8000 or arguments.num % CLASSES:
        parser.error(f"expected --num a multiple of ten from 10 to 8000, got {arguments.num}")
    if len(set(names)) < len(names):
        parser.error(f"expected runs of different names, got {', '.join(names)}")
    try:
        loaded = [load(run) for run in arguments.runs]
        judge = Judge(judging.classifier(arguments.classifier), *judging.fashion("test"))
    except UserError as error:
        parser.error(str(error))
    held_out = judge.row("held out", judge.images, judge.labels)
    rows = [held_out, training_floor(judge, arguments.num)]
    tokenizers: dict[str, Row] = {}
    for name, run, model in zip(names, arguments.runs, loaded, strict=True):
        tokenizer = model.tokenizer if isinstance(model, Prior) else model
        if tokenizer.fingerprint not in tokenizers:
            tokenizers[tokenizer.fingerprint] = reconstructed(judge, tokenizer)
            rows.append(tokenizers[tokenizer.fingerprint])
        if isinstance(model, Prior):
            row, images = sampled(judge, name, model, arguments.num, arguments.seed)
            row |= {f"seconds_a_picture_{batch}": seconds_a_picture(model, batch) for batch in (64, 1)}
            row["sampling"] = dataclasses.asdict(model.config.sampling)
            rows.append(row)
            if arguments.pictures:
                shown = [images[c::CLASSES][:SHOWN] for c in range(CLASSES)]
                judging.write_sheet(arguments.pictures / f"fashion_generation_{name}.png", shown)
        else:
            row = tokenizers[tokenizer.fingerprint]
        row |= {"run": name, "training_seconds": training_seconds(run)}
    print(table(rows), end="")
    if arguments.output:
        report = judging.machine() | {"classifier": judging.fingerprint(judge.params), "seed": arguments.seed}
        arguments.output.write_text(json.dumps(report | {"rows": rows}, indent=2) + "\n")
        arguments.output.with_suffix(".md").write_text(table(rows))


if __name__ == "__main__":
    main()
