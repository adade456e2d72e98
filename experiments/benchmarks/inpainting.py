"""How well a prior fills holes: PSNR inside the hole, against the mean colour of what is known.

The pictures are held-out ones of the run's own data: the first of many, or, of a few photographs, crops of
the prior's size side by side. The hole is a centred square. PSNR is that of uint8 values (peak 255) over the
hole's pixels alone, from the squared error pooled over all pictures, not a mean of the pictures' PSNR.
Each row is the mean over seeds, with the lowest and the highest:
- mean colour: the mean of the picture's known pixels in the whole hole;
- the prior, with the picture's label and without where it knows classes, at the run's own sampling settings
  and at temperature 0, the likeliest codes (PSNR rewards them: a draw that looks right is rarely the same);
- through the tokenizer: the whole original through its codes and back, the most that codes allow for.
Pixels outside the codes drawn anew must be bit-identical to the original's; a changed one ends the program.

Needs: pip install vq-jax, and a run: vq-jax train vqgan-photos; vq-jax train prior-photos
Run:   python experiments/benchmarks/inpainting.py runs/prior-photos \
           --output experiments/benchmarks/results/inpainting_photos.json \
           --picture experiments/benchmarks/results/inpainting_photos.png
"""

import argparse
import dataclasses
import json
from pathlib import Path
from typing import Any

import judging
import numpy as np

import vq_jax
from vq_jax.data import open_source, test_batches
from vq_jax.errors import UserError
from vq_jax.evaluate import psnr
from vq_jax.generate.inpainting import hole_codes
from vq_jax.pretrained.prior import Prior

TOGETHER = 50  # pictures filled at once
SHOWN = 8
HOLE_GREY = 128
Row = dict[str, Any]


def held_out(prior: Prior, num: int) -> tuple[np.ndarray, np.ndarray | None]:
    """Held-out pictures of the prior's data, at the size that it draws.

    Args:
      prior: whose data.
      num: how many, at most.

    Returns:
      uint8 [N, S, S, C], and labels int32 [N] where the prior knows classes.
    """
    data = prior.config.data.resolve(prior.tokenizer.config.data)
    source = open_source(data.source, "test", data, prior.tokenizer.channels)
    data = dataclasses.replace(data, image_size=prior.image_size)
    # Of many pictures the first ones; a few give several squares each, `num` in all.
    limit = None if len(source) >= num else num
    batch = next(test_batches(source, data, batch_size=num, limit=limit))
    valid = batch["valid"]
    labels = batch["label"][valid] if prior.num_classes is not None else None
    return batch["image"][valid], labels


def centred_hole(side: int, box: int) -> np.ndarray:
    """A mask bool [side, side], true in a square of `box` pixels in the middle."""
    hole = np.zeros((side, side), bool)
    first = (side - box) // 2
    hole[first : first + box, first : first + box] = True
    return hole


def psnr_in_hole(originals: np.ndarray, filled: np.ndarray, hole: np.ndarray) -> float:
    """PSNR in decibel over the hole's pixels of all pictures together, peak 255.

    Args:
      originals: uint8 [N, H, W, C].
      filled: alike.
      hole: bool [H, W].
    """
    return psnr(originals[:, hole], filled[:, hole])


def mean_colour(originals: np.ndarray, hole: np.ndarray) -> np.ndarray:
    """Pictures whose hole has the mean of their known pixels, channel by channel, rounded."""
    filled = originals.copy()
    filled[:, hole] = np.rint(originals[:, ~hole].mean(axis=1, keepdims=True)).astype(np.uint8)
    return filled


def fill(
    prior: Prior, originals: np.ndarray, hole: np.ndarray, labels: np.ndarray | None, **options: Any
) -> np.ndarray:
    """The prior's filling of the hole in every picture.

    Raises:
      RuntimeError: it changed a pixel outside the codes that are drawn anew.
    """
    seed, parts = options.pop("seed"), []
    for number, rows in enumerate(judging.batches(len(originals), min(TOGETHER, len(originals)))):
        some = None if labels is None else labels[rows]
        parts.append(prior.inpaint(originals[rows], hole, labels=some, seed=1000 * seed + number, **options))
    filled = np.concatenate(parts)[: len(originals)]
    changed = changed_outside(originals, filled, hole, prior.tokenizer.strides)
    if changed:
        raise RuntimeError(f"{changed} pixels changed that are to stay as they are")
    return filled


def changed_outside(
    originals: np.ndarray, filled: np.ndarray, hole: np.ndarray, strides: tuple[int, ...]
) -> int:
    """Pixels that differ outside the codes which the hole touches and the ring around them."""
    codes = hole_codes(hole, strides)
    grown = codes.repeat(strides[0], 0).repeat(strides[1], 1)[: hole.shape[0], : hole.shape[1]]
    return int((originals != filled)[:, ~grown].any(axis=-1).sum())


def measure(
    prior: Prior, originals: np.ndarray, labels: np.ndarray | None, box: int, seeds: int
) -> tuple[list[Row], np.ndarray]:
    """Rows of one size of hole, and the pictures of the first one of the prior, of the first seed."""
    hole = centred_hole(originals.shape[1], box)
    rows, pictures = [], []

    def row(name: str, several: list[np.ndarray]) -> None:
        values = [psnr_in_hole(originals, filled, hole) for filled in several]
        found = {"psnr": float(np.mean(values)), "lowest": min(values), "highest": max(values)}
        rows.append({"box": box, "fill": name} | found)
        pictures.append(several[0])

    row("mean colour", [mean_colour(originals, hole)])
    given: list[tuple[str, np.ndarray | None]] = (
        [("", None)] if labels is None else [(", with labels", labels)]
    )
    if labels is not None and prior.model.class_dropout > 0:
        given.append((", without", None))
    for told, some in given:
        for temperature in dict.fromkeys((prior.config.sampling.temperature, 0.0)):
            options = {"temperature": temperature}
            several = [fill(prior, originals, hole, some, seed=seed, **options) for seed in range(seeds)]
            row(f"prior{told}, temperature {temperature:g}", several)
    row("through the tokenizer", [prior.tokenizer.reconstruct(originals)])
    return rows, pictures[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", type=Path, metavar="RUN", help="run directory of a prior")
    parser.add_argument("--box", type=int, nargs="+", metavar="SIZE", help="sides of the holes, in pixels")
    parser.add_argument("--num", type=int, default=200, help="pictures at most")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--output", type=Path, help="JSON to write")
    parser.add_argument("--picture", type=Path, help="PNG to write: original, hole, filled, for each size")
    arguments = parser.parse_args()
    if min(arguments.num, arguments.seeds) < 1:
        parser.error(f"expected --num and --seeds of at least 1, got {arguments.num}, {arguments.seeds}")
    try:
        prior = vq_jax.load(arguments.run)
        if not isinstance(prior, Prior):
            raise UserError(f"expected the run of a prior, {arguments.run} holds a tokenizer")
        if not isinstance(prior.image_size, int):
            raise UserError(f"expected a prior of square pictures, {arguments.run} draws others")
        boxes = arguments.box or ([8, 12] if prior.image_size < 48 else [24])
        if not all(0 < box < prior.image_size for box in boxes):
            raise UserError(f"expected --box from 1 to {prior.image_size - 1} px, got {boxes}")
        originals, labels = held_out(prior, arguments.num)
        shown = np.linspace(0, len(originals) - 1, min(SHOWN, len(originals))).astype(int)
        rows, sheet = [], []
        for box in boxes:
            measured, filled = measure(prior, originals, labels, box, arguments.seeds)
            rows += measured
            hole = centred_hole(prior.image_size, box)[None, :, :, None]
            holed = np.where(hole, np.uint8(HOLE_GREY), originals)
            sheet += [originals[shown], holed[shown], filled[shown]]
    except UserError as error:
        parser.error(str(error))
    for row in rows:
        spread = f"{row['lowest']:.2f} to {row['highest']:.2f}"
        print(f"hole of {row['box']} px, {row['fill']}: {row['psnr']:.2f} dB ({spread})")
    print(
        f"{len(originals)} pictures, {arguments.seeds} seeds, no pixel changed outside the codes drawn anew"
    )
    if arguments.picture:
        judging.write_sheet(arguments.picture, sheet, zoom=max(1, 96 // prior.image_size))
    if arguments.output:
        report = judging.machine() | {
            "run": arguments.run.resolve().name,
            "sampling": dataclasses.asdict(prior.config.sampling),
            "pictures": len(originals),
            "seeds": arguments.seeds,
            "pixels_changed_outside": 0,
            "rows": rows,
        }
        arguments.output.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
