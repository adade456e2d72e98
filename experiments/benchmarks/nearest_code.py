"""Time to compile, memory and time to run of the nearest code on CPU, by the size of the codebook.

    python experiments/benchmarks/nearest_code.py

Prints a line for each size: latents N, codes K and width D; needs nothing beside vq_jax.
"""

import argparse
import time

import jax
import numpy as np

from vq_jax import ops

SIZES = ("4096x4096x8", "4096x8192x64", "4096x65536x8", "2048x262144x8")


def measure(latents: int, codes: int, width: int, repeats: int) -> dict[str, float]:
    """Measures one size.

    Args:
      latents: N.
      codes: K.
      width: D.
      repeats: runs, of which the fastest counts.

    Returns:
      `compile_seconds`, `temporary_mib` and `run_ms`.
    """
    rng = np.random.default_rng(0)
    z, codebook = (rng.normal(size=(rows, width)).astype(np.float32) for rows in (latents, codes))
    begin = time.perf_counter()
    program = jax.jit(ops.nearest_code).lower(z, codebook).compile()
    compiled, runs = time.perf_counter() - begin, []
    for _ in range(repeats):
        begin = time.perf_counter()
        program(z, codebook).block_until_ready()
        runs.append(time.perf_counter() - begin)
    memory = program.memory_analysis().temp_size_in_bytes / 2**20
    return {"compile_seconds": compiled, "temporary_mib": memory, "run_ms": 1e3 * min(runs)}


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sizes", nargs="+", default=SIZES, help="NxKxD")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    print("| N | K | D | compile | memory | run |\n|---|---|---|---|---|---|")
    for size in options.sizes:
        latents, codes, width = map(int, size.split("x"))
        found = measure(latents, codes, width, options.repeats)
        print(
            f"| {latents} | {codes} | {width} | {found['compile_seconds']:.2f} s "
            f"| {found['temporary_mib']:.0f} MiB | {found['run_ms']:.0f} ms |",
            flush=True,
        )


if __name__ == "__main__":
    main()
