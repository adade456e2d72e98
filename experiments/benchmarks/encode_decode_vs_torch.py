"""Encoding and decoding with the f16 VQGAN: ours against taming-transformers in PyTorch, taking turns.

One picture at a time, from pixels to indices and from indices to pixels, the network of 72.1M parameters.
PyTorch runs taming's modules with its best memory format, channels last; on a GPU both compute in
bfloat16 and PyTorch's network is compiled. Quoted are medians, and the median of the pairs' ratios.

Needs: pip install "vq-jax[parity]"
Run:   python experiments/benchmarks/encode_decode_vs_torch.py --output encode_decode_vs_torch.json
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
import torch
from taming_in_torch import Generator, timed, to_torch

from vq_jax import create_model, ops


def compare(size: int, rounds: int, device: str) -> list[dict[str, Any]]:
    """Medians of both sides in seconds, and how many times as fast ours is, for both directions."""
    pictures = np.random.default_rng(0).integers(0, 256, (1, size, size, 3), np.uint8)
    on_gpu = device == "cuda"
    model = create_model("vqgan-f16", dtype=jnp.bfloat16 if on_gpu else jnp.float32)
    variables = jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, size, size, 3)))
    images = ops.normalize_pictures(jnp.asarray(pictures))
    encode = jax.jit(lambda variables, images: model.apply(variables, images, method="encode"))
    decode = jax.jit(lambda variables, indices: model.apply(variables, indices, method="decode"))
    indices = encode(variables, images)

    theirs = Generator(size).eval().requires_grad_(False)
    theirs.to(device, memory_format=torch.channels_last)
    tensor = to_torch(pictures, device)
    their_encode, their_decode = theirs.encode, theirs.decode
    if on_gpu:
        their_encode, their_decode = torch.compile(theirs.encode), torch.compile(theirs.decode)
    shape = (1, size // 16, size // 16, 256)

    def in_torch(function: Any, *arguments: Any) -> Any:
        with torch.inference_mode(), torch.autocast(device, torch.bfloat16, enabled=on_gpu):
            return function(*arguments)

    codes = in_torch(their_encode, tensor).reshape(-1)
    sides = {
        "encode": (
            lambda: jax.block_until_ready(encode(variables, images)),
            lambda: in_torch(their_encode, tensor),
        ),
        "decode": (
            lambda: jax.block_until_ready(decode(variables, indices)),
            lambda: in_torch(their_decode, codes, shape),
        ),
    }
    results = []
    for name, (ours, other) in sides.items():
        for _ in range(2):
            ours()
            timed(other, device)
        pairs = [(timed(ours, device), timed(other, device)) for _ in range(rounds)]
        results.append(
            {
                "what": name,
                "size": size,
                "ours_seconds": statistics.median(pair[0] for pair in pairs),
                "torch_seconds": statistics.median(pair[1] for pair in pairs),
                "speedup": statistics.median(pair[1] / pair[0] for pair in pairs),
                "speedup_range": [min(b / a for a, b in pairs), max(b / a for a, b in pairs)],
                "rounds": rounds,
            }
        )
        print(json.dumps(results[-1]), flush=True)
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--output", type=Path, help="JSON to write")
    arguments = parser.parse_args()
    device = "cuda" if jax.default_backend() == "gpu" and torch.cuda.is_available() else "cpu"
    torch.set_num_threads(os.cpu_count() or 1)
    report = {
        "device": jax.devices()[0].device_kind if device == "cuda" else f"{os.cpu_count()} CPU cores",
        "python": platform.python_version(),
        "jax": jax.__version__,
        "torch": torch.__version__,
        "results": [row for size in (128, 256) for row in compare(size, arguments.rounds, device)],
    }
    if arguments.output:
        arguments.output.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
