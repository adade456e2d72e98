"""Restoration of the 2,000 held-out Fashion-MNIST pictures: bicubic, Lanczos, and trained runs beside them.

The pictures are degraded as the first run learnt to undo, each by the generator of its number. PSNR and SSIM
are means over pictures; LPIPS (AlexNet) is of pictures whose pixels are repeated twice along each axis,
since AlexNet takes none below 31 px. Accuracy is the share of restored pictures that the classifier of
`judging.py`, which learnt from whole pictures, gives their label; the first row has that of the originals.
Training seconds are those of a run's steps.

Needs: pip install "vq-jax[lpips]", and runs: vq-jax train vqgan-fashion; vq-jax train restore-fashion-x4;
       vq-jax train regress-fashion-x4
Run:   python experiments/benchmarks/fashion_restoration.py runs/restore-fashion-x4 runs/regress-fashion-x4 \
           --output experiments/benchmarks/results/fashion_restoration.json \
           --sheet experiments/benchmarks/results/fashion_restoration.png
"""

import argparse
import json
from pathlib import Path
from typing import Any

import judging
import numpy as np
from fashion_generation import training_seconds
from restoration import Restore, enlarging, of_run

import vq_jax
from vq_jax.configs.degradations import DegradationConfig
from vq_jax.data.degrade import degrade
from vq_jax.errors import UserError
from vq_jax.evaluate import lpips, psnr, ssim

COLUMNS = {  # keys of a row, and their heads
    "pictures": "pictures",
    "psnr": "PSNR, dB",
    "ssim": "SSIM",
    "lpips_alex": "LPIPS",
    "accuracy": "accuracy",
    "training_seconds": "training, s",
}
CLASSES = 10
Row = dict[str, Any]


def degraded(images: np.ndarray, config: DegradationConfig) -> np.ndarray:
    """Pictures uint8 [N, h, w, 1], each degraded by the generator of its number."""
    return np.stack(
        [degrade(image, config, np.random.default_rng(number)) for number, image in enumerate(images)]
    )


def repeated(images: np.ndarray, factor: int) -> np.ndarray:
    """Pictures [..., h, w, 1] with each pixel repeated along both axes."""
    return images.repeat(factor, -3).repeat(factor, -2)


def grey(restore: Restore) -> Restore:
    """A method for pictures [h, w, 3], or of Pillow's without a channel, on pictures [h, w, 1]."""
    return lambda picture, generator: restore(picture[..., 0], generator)[..., None]


def distances(originals: np.ndarray, images: np.ndarray) -> Row:
    """Means of PSNR, SSIM and LPIPS of pictures, uint8 [N, H, W, 1]."""
    pairs = list(zip(originals, images, strict=True))
    return {
        "psnr": float(np.mean([psnr(original, image) for original, image in pairs])),
        "ssim": float(np.mean([ssim(original, image) for original, image in pairs])),
        "lpips_alex": float(
            np.mean([lpips(repeated(original, 2), repeated(image, 2)) for original, image in pairs])
        ),
    }


def accuracy(params: judging.Params, images: np.ndarray, labels: np.ndarray) -> float:
    """Share of pictures whose label the classifier sees."""
    return float(np.mean(judging.classify(params, images)[0] == labels))


def load(runs: list[Path]) -> list[Any]:
    """Loads runs of restorers or regressors that learnt to undo the same degradation.

    Raises:
      UserError: one learnt from other pictures, or to undo something else.
    """
    loaded = [vq_jax.load_restorer(run) for run in runs]
    for run, trained in zip(runs, loaded, strict=True):
        data = trained.config.data.resolve(trained.tokenizer.config.data)
        if data.source != "fashion" or data.image_size != 28:
            raise UserError(
                f"expected runs on the Fashion-MNIST pictures of the package (28 px), {run} is of "
                f"{data.source}, {data.image_size} px"
            )
        if trained.config.data.degradation != loaded[0].config.data.degradation:
            raise UserError(f"expected runs with one degradation, {run} has another than {runs[0]}")
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
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="of a restorer or a regressor")
    parser.add_argument("--classifier", type=Path, metavar="FILE.npz", help="trained and kept when absent")
    parser.add_argument("--output", type=Path, help="JSON to write, with a markdown table beside it")
    parser.add_argument("--sheet", type=Path, help="PNG of some pictures to write")
    arguments = parser.parse_args()
    try:
        loaded = load(arguments.runs)
        judge = judging.classifier(arguments.classifier)
    except UserError as error:
        parser.error(str(error))
    config, (images, labels) = loaded[0].config.data.degradation, judging.fashion("test")
    given = degraded(images, config)
    methods = {name: grey(settings[0]) for name, settings in enlarging(config.scale).items()}
    for trained in loaded:
        methods |= of_run(trained)
    rows: list[Row] = [{"pictures": "originals", "accuracy": accuracy(judge, images, labels)}]
    firsts = [np.flatnonzero(labels == label)[0] for label in range(CLASSES)]
    sheet = [repeated(given[firsts], config.scale)]
    seconds = {
        trained.config.name: training_seconds(run)
        for run, trained in zip(arguments.runs, loaded, strict=True)
    }
    for name, restore in methods.items():
        restored = np.stack([restore(picture, np.random.default_rng(0)) for picture in given])
        row = {"pictures": name, **distances(images, restored), "accuracy": accuracy(judge, restored, labels)}
        run = name.split(" ")[0]
        rows.append(row | ({"training_seconds": seconds[run]} if run in seconds else {}))
        sheet.append(restored[firsts])
        print(table(rows[-1:]).splitlines()[-1], flush=True)
    print(table(rows), end="")
    if arguments.output:
        report = judging.machine() | {"classifier": judging.fingerprint(judge), "rows": rows}
        arguments.output.write_text(json.dumps(report, indent=2) + "\n")
        arguments.output.with_suffix(".md").write_text(table(rows))
    if arguments.sheet:
        judging.write_sheet(arguments.sheet, [*sheet, images[firsts]], zoom=2)


if __name__ == "__main__":
    main()
