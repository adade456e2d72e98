"""Encoding and decoding with the f16 VQGAN: ours against taming-transformers in PyTorch, taking turns.

One picture at a time, from pixels to indices and from indices to pixels, the network of 72.1M parameters.
PyTorch runs taming's modules with its best memory format, channels last; ours is jitted, with the memory
settings of the command line (`vq_jax.host.memory`). On a GPU both compute in bfloat16 and PyTorch's network
is compiled.

Needs: pip install "vq-jax[parity]"
Run:   python experiments/benchmarks/encode_decode_vs_torch.py --output encode_decode_vs_torch.json
"""

import argparse
import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import turns


def picture(size: int) -> np.ndarray:
    """A random uint8 picture, as a batch of one."""
    return np.random.default_rng(0).integers(0, 256, (1, size, size, 3), np.uint8)


def ours(what: str, size: int, device: str) -> Callable[[], None]:
    """Makes a function that encodes or decodes with our model, and waits for it."""
    from vq_jax.host.memory import keep_freed_memory

    keep_freed_memory()  # before jax is imported
    import jax
    import jax.numpy as jnp

    from vq_jax import create_model, ops

    model = create_model("vqgan-f16", dtype=jnp.bfloat16 if device == "cuda" else jnp.float32)
    images = ops.normalize_pictures(jnp.asarray(picture(size)))
    variables = jax.jit(model.init)(jax.random.key(0), images)
    inputs = images if what == "encode" else model.apply(variables, images, method="encode")
    function = jax.jit(lambda variables, inputs: model.apply(variables, inputs, method=what))

    def take() -> None:
        jax.block_until_ready(function(variables, inputs))

    return take


def in_torch(what: str, size: int, device: str) -> Callable[[], None]:
    """Makes a function that encodes or decodes with taming's modules, and waits for it."""
    import torch
    from taming_in_torch import Generator, to_torch

    torch.set_num_threads(os.cpu_count() or 1)
    fast = device == "cuda"
    network = Generator(size).eval().requires_grad_(False)
    network.to(device, memory_format=torch.channels_last)
    tensor = to_torch(picture(size), device)
    shape = (1, size // 16, size // 16, 256)
    codes = network.encode(tensor).reshape(-1)
    function = getattr(network, what)
    function = torch.compile(function) if fast else function

    def take() -> None:
        with torch.inference_mode(), torch.autocast(device, torch.bfloat16, enabled=fast):
            function(tensor) if what == "encode" else function(codes, shape)
        if fast:
            torch.cuda.synchronize()

    return take


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--output", type=Path, help="JSON to write")
    arguments = parser.parse_args()
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # a GPU is shared with PyTorch
    report = turns.machine(arguments.device) | {"results": []}
    for size in (128, 256):
        for what in ("encode", "decode"):
            result = turns.compare(ours, in_torch, (what, size, arguments.device), arguments.rounds)
            report["results"].append({"what": what, "size": size} | result)
            print(json.dumps(report["results"][-1]), flush=True)
    if arguments.output:
        arguments.output.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
