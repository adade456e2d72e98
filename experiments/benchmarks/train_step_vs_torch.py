"""One training step of the f16 VQGAN: ours against taming-transformers in PyTorch, taking turns.

The same work on both sides: the network of 72.1M parameters with 1024 codes, L1, with and without LPIPS
(VGG16, random weights), a PatchGAN discriminator of three layers with its adaptive weight, Adam for both.
PyTorch runs taming's step (see `taming_in_torch`) with its best memory format, channels last; ours is the
jitted step of a run, with the memory settings of a run (`vq_jax.host.memory`). On a GPU both compute in
bfloat16 and PyTorch's networks are compiled.

Needs: pip install "vq-jax[parity]"
Run:   python experiments/benchmarks/train_step_vs_torch.py --output train_step_vs_torch.json
"""

import argparse
import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import turns


def pictures(size: int, batch: int) -> np.ndarray:
    """Random uint8 pictures."""
    return np.random.default_rng(0).integers(0, 256, (batch, size, size, 3), np.uint8)


def ours(size: int, batch: int, perceptual: bool, device: str) -> Callable[[], None]:
    """Makes a function that takes one of our steps, and waits for it."""
    from vq_jax.host.memory import keep_freed_memory

    keep_freed_memory()  # before jax is imported
    import jax
    import jax.numpy as jnp
    import optax

    from vq_jax import create_model, nn
    from vq_jax.configs import Losses
    from vq_jax.train import make_mesh
    from vq_jax.train.jit import jit_train_step
    from vq_jax.train.sharding import init_state_sharded, shard_local_batch

    mesh = make_mesh(1, 1)
    dtype = jnp.bfloat16 if device == "cuda" else jnp.float32
    networks = {
        "model": create_model("vqgan-f16", dtype=dtype),
        "optimizer": optax.adam(4.5e-6, 0.5, 0.9),
        "discriminator_model": nn.PatchDiscriminator(dtype=dtype),
        "discriminator_optimizer": optax.adam(4.5e-6, 0.5, 0.9),
    }
    losses = Losses(reconstruction="l1", perceptual_weight=float(perceptual), adversarial_weight=0.8)
    weights = None
    if perceptual:
        picture = jnp.zeros((1, 64, 64, 3))
        weights = jax.jit(nn.LPIPS("vgg").init)(jax.random.key(2), picture, picture)
    state = init_state_sharded(jax.random.key(0), (size, size, 3), mesh, **networks)
    step = jit_train_step(mesh, losses=losses, **networks)
    inputs, rng = shard_local_batch({"image": pictures(size, batch)}, mesh), jax.random.key(1)

    def take() -> None:
        nonlocal state
        state, metrics = step(state, inputs, rng, weights)
        jax.block_until_ready((state, metrics))

    return take


def in_torch(size: int, batch: int, perceptual: bool, device: str) -> Callable[[], None]:
    """Makes a function that takes one of taming's steps, and waits for it."""
    import torch
    from taming_in_torch import TrainStep, to_torch

    torch.set_num_threads(os.cpu_count() or 1)
    step = TrainStep(size, perceptual=perceptual, device=device, fast=device == "cuda")
    tensor = to_torch(pictures(size, batch), device)

    def take() -> None:
        step(tensor)
        if device == "cuda":
            torch.cuda.synchronize()

    return take


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--output", type=Path, help="JSON to write")
    arguments = parser.parse_args()
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # a GPU is shared with PyTorch
    report = turns.machine(arguments.device) | {"steps": []}
    for size, batch in ((128, 2), (256, 1)) if arguments.device == "cpu" else ((256, 8),):
        for perceptual in (True, False):
            work = (size, batch, perceptual, arguments.device)
            result = turns.compare(ours, in_torch, work, arguments.rounds)
            report["steps"].append({"size": size, "batch": batch, "lpips": perceptual} | result)
            print(json.dumps(report["steps"][-1]), flush=True)
    if arguments.output:
        arguments.output.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
