"""One training step of the f16 VQGAN: ours against taming-transformers in PyTorch, taking turns.

The same work on both sides: the network of 72.1M parameters with 1024 codes, L1 and LPIPS (VGG16), a
PatchGAN discriminator of three layers with its adaptive weight, Adam for both. PyTorch runs taming's
step (see `taming_in_torch`) with its best memory format, channels last; ours is the jitted step of a run.
On a GPU both compute in bfloat16 and PyTorch's networks are compiled. The two take turns step by step, so
that a machine whose speed drifts harms both; quoted are medians, and the median of the pairs' ratios.

Needs: pip install "vq-jax[parity]"
Run:   python experiments/benchmarks/train_step_vs_torch.py --output train_step_vs_torch.json
"""

import argparse
import json
import os
import platform
import statistics
from pathlib import Path
from typing import Any

from vq_jax.memory import keep_freed_memory

os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # a GPU is shared with PyTorch
keep_freed_memory()  # as in a run; for both sides

import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch
from taming_in_torch import TrainStep, timed, to_torch

from vq_jax import create_model, nn
from vq_jax.config import Losses
from vq_jax.train import make_mesh
from vq_jax.train.sharding import init_state_sharded, jit_train_step, put_batch


def our_step(pictures: np.ndarray, perceptual: bool, dtype: Any) -> Any:
    """A function that takes one step, and waits for it."""
    mesh = make_mesh(1, 1)
    networks = {
        "model": create_model("vqgan-f16", dtype=dtype),
        "optimizer": optax.adam(4.5e-6, 0.5, 0.9),
        "discriminator_model": nn.PatchDiscriminator(dtype=dtype),
        "discriminator_optimizer": optax.adam(4.5e-6, 0.5, 0.9),
    }
    losses = Losses(
        reconstruction="l1", perceptual_weight=float(perceptual), adversarial_weight=0.8, adaptive=True
    )
    weights = None
    if perceptual:
        picture = jnp.zeros((1, 64, 64, 3))
        weights = jax.jit(nn.LPIPS("vgg").init)(jax.random.key(2), picture, picture)
    state = init_state_sharded(jax.random.key(0), pictures.shape[1:], mesh, **networks)
    step = jit_train_step(mesh, losses=losses, **networks)
    batch, rng = put_batch({"image": pictures}, mesh), jax.random.key(1)

    def take() -> None:
        nonlocal state
        state, metrics = step(state, batch, rng, weights)
        jax.block_until_ready((state, metrics))

    return take


def compare(size: int, batch: int, perceptual: bool, rounds: int, device: str) -> dict[str, Any]:
    """Medians of both sides in seconds, and how many times as fast ours is."""
    pictures = np.random.default_rng(0).integers(0, 256, (batch, size, size, 3), np.uint8)
    on_gpu = device == "cuda"
    ours = our_step(pictures, perceptual, jnp.bfloat16 if on_gpu else jnp.float32)
    theirs, tensor = (
        TrainStep(size, perceptual=perceptual, device=device, fast=on_gpu),
        to_torch(pictures, device),
    )
    for _ in range(2):  # compilation, and memory that is got once
        ours()
        timed(lambda: theirs(tensor), device)
    pairs = [(timed(ours, device), timed(lambda: theirs(tensor), device)) for _ in range(rounds)]
    result = {
        "size": size,
        "batch": batch,
        "lpips": perceptual,
        "ours_seconds": statistics.median(pair[0] for pair in pairs),
        "torch_seconds": statistics.median(pair[1] for pair in pairs),
        "speedup": statistics.median(pair[1] / pair[0] for pair in pairs),
        "speedup_range": [min(b / a for a, b in pairs), max(b / a for a, b in pairs)],
        "rounds": rounds,
    }
    print(json.dumps(result), flush=True)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--output", type=Path, help="JSON to write")
    arguments = parser.parse_args()
    device = "cuda" if jax.default_backend() == "gpu" and torch.cuda.is_available() else "cpu"
    torch.set_num_threads(os.cpu_count() or 1)
    shapes = ((128, 2), (256, 1)) if device == "cpu" else ((256, 8),)
    results = [
        compare(size, batch, perceptual, arguments.rounds, device)
        for size, batch in shapes
        for perceptual in (True, False)
    ]
    report = {
        "device": jax.devices()[0].device_kind if device == "cuda" else f"{os.cpu_count()} CPU cores",
        "python": platform.python_version(),
        "jax": jax.__version__,
        "torch": torch.__version__,
        "steps": results,
    }
    if arguments.output:
        arguments.output.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
