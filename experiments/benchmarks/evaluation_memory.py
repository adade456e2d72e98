"""Memory of `vq-jax evaluate` on folders of 1,000 pictures and of 10,000.

The pictures are Fashion-MNIST's, as PNG files, beside themselves with noise; each command is a process of its
own, whose largest resident size the system tells. It may grow by the features that are kept for figures of
kernels and neighbours, of up to 10,000 pictures of each set, four copies at most, and by nothing else.

Needs: pip install vq-jax[lpips]
Run:   python experiments/benchmarks/evaluation_memory.py \
           --output experiments/benchmarks/results/evaluation_memory_cpu.json
"""

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import judging
import numpy as np

from vq_jax.runs.grids import encode_png

METRICS = ("ssim", "fd-vgg")
WIDTH = 512  # features of VGG16
NOISE = 25.0  # standard deviation, where white is 255
MIB = 2**20


def write_pictures(place: Path, count: int) -> tuple[Path, Path]:
    """Writes `count` pictures and the same ones with noise, each set into a folder."""
    images = np.concatenate([judging.fashion(split)[0] for split in ("train", "test")])[:count]
    rng = np.random.default_rng(0)
    noisy = np.clip(np.rint(images + NOISE * rng.standard_normal(images.shape)), 0, 255).astype(np.uint8)
    for name, some in (("clean", images), ("noisy", noisy)):
        (place / name).mkdir()
        for number, picture in enumerate(some):
            (place / name / f"{number:05}.png").write_bytes(encode_png(picture))
    return place / "noisy", place / "clean"


def measured(place: Path, count: int, metrics: tuple[str, ...]) -> dict[str, Any]:
    """Evaluates folders of `count` pictures in a process; its figures, peak memory and time."""
    made, real = write_pictures(place, count)
    out = place / "figures.json"
    command = ["-m", "vq_jax", "evaluate", made, "--against", real, "--metrics", *metrics, "-o", out]
    start = time.perf_counter()
    process = os.posix_spawn(sys.executable, [sys.executable, *map(str, command)], os.environ)
    _, status, usage = os.wait4(process, 0)
    if status != 0:
        raise RuntimeError(f"vq-jax evaluate ended with status {os.waitstatus_to_exitcode(status)}")
    return {
        "pictures": count,
        "peak_mib": usage.ru_maxrss * 1024 / MIB,  # Linux counts KiB
        "seconds": time.perf_counter() - start,
        "figures": json.loads(out.read_text())["figures"],
    }


def run(counts: tuple[int, ...], metrics: tuple[str, ...] = METRICS) -> dict[str, Any]:
    """Measures each count."""
    rows = []
    for count in counts:
        with tempfile.TemporaryDirectory() as place:
            rows.append(measured(Path(place), count, metrics))
    growth = rows[-1]["peak_mib"] - rows[0]["peak_mib"]
    kept = 4 * 2 * (counts[-1] - counts[0]) * WIDTH * 4 / MIB
    return {
        "device": f"cpu, {platform.machine()}",
        "cores": os.cpu_count(),
        "metrics": metrics,
        "rows": rows,
        "growth_mib": growth,
        "may_grow_mib": kept,
        "bounded": growth <= kept,
    }


def main() -> int:
    """Prints and writes what was measured; 1 if memory grew by more than it may."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--counts", type=int, nargs="+", default=[1000, 10_000])
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    result = run(tuple(arguments.counts))
    text = json.dumps(result, indent=2) + "\n"
    print(text)
    if arguments.output is not None:
        arguments.output.write_text(text)
    return 0 if result["bounded"] else 1


if __name__ == "__main__":
    sys.exit(main())
