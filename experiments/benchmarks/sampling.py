"""Tokens a second of the autoregressive sampler against PyTorch: one network, three loops, in one run.

The network is a GPT of 12 layers, 768 wide, over grids of 16 x 16 codes (RMSNorm, SwiGLU, rotary
positions). PyTorch runs it on the same weights in two loops written here:
- with a cache: keys and values of every layer preallocated, one token a step;
- without: all tokens so far a step, as in the sampling loop of taming-transformers. It takes minutes, so
  every 16th step is timed, from the 9th on, and counted 16 times.
Both draw with softmax and multinomial under inference mode, ours with Gumbel noise. Ours is
`sample_gpt`, compiled before the clock starts; splitting the stacked weights is part of its time.

The loops take turns within a round, in an order that changes from round to round, and ratios are
medians over rounds of times that lie next to each other, so that another load on the machine touches
both sides. PyTorch runs on one thread or on all cores, whichever is faster for that batch size in a trial.

Needs: pip install "vq-jax[parity]"
Run:   python experiments/benchmarks/sampling.py -o results.json      (10 minutes; --quick: one)
"""

import argparse
import functools
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
import torch.nn.functional as F

from vq_jax import ops
from vq_jax.generate import sample_gpt
from vq_jax.nn import GPT

STRIDE = 16  # of the steps timed without a cache


class TorchGPT:
    """The network of an unconditional `GPT` on its weights, and the two loops."""

    def __init__(self, model: GPT, params: Any) -> None:
        def tensor(array: Any) -> torch.Tensor:
            return torch.from_numpy(np.array(array))

        def kernel(array: Any) -> torch.Tensor:
            return tensor(array).T.contiguous()  # [out, in], torch's own layout

        blocks = params["layers"]["blocks"]
        self.layers = []
        for i in range(model.num_layers):
            layer = {name: kernel(blocks[name]["kernel"][i]) for name in ("qkv", "attention_out")}
            layer |= {name: kernel(blocks[name]["kernel"][i]) for name in ("gate_up", "down")}
            layer |= {name: tensor(blocks[name]["scale"][i]) for name in ("attention_norm", "mlp_norm")}
            self.layers.append(layer)
        self.embedding, self.head = tensor(params["embedding"][0]), kernel(params["head"][0])
        self.norm, self.prefix = tensor(params["norm"]["scale"]), tensor(params["prefix"][0])
        coordinates = ops.grid_coordinates(model.grid)
        self.position = sum(
            tensor(params[f"position_{axis}"])[coordinates[:, axis]] for axis in range(len(model.grid))
        )
        angles = torch.from_numpy(model._angles())
        self.cos, self.sin = angles.cos(), angles.sin()
        self.heads, self.tokens = model.num_heads, model.positions

    def rotate(self, x: torch.Tensor, start: int) -> torch.Tensor:
        end = start + x.shape[2]
        cos, sin = self.cos[start:end], self.sin[start:end]
        first, second = x.chunk(2, dim=-1)
        return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)

    def tokens_in(self, codes: torch.Tensor, start: int) -> torch.Tensor:
        """Inputs from `start` on: the prefix at 0, then the codes."""
        x = self.embedding[codes]
        if start == 0:
            x = torch.cat([self.prefix.expand(len(codes), 1, -1), x], dim=1)
        return x + self.position[start : start + x.shape[1]]

    def hidden(self, x: torch.Tensor, start: int, caches: list[Any] | None) -> torch.Tensor:
        """Tokens [B, T, E] through the layers; with caches T is one."""
        batch, length, width = x.shape
        for i, layer in enumerate(self.layers):
            h = F.rms_norm(x, (width,), layer["attention_norm"], 1e-6)
            qkv = F.linear(h, layer["qkv"]).view(batch, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
            q, k, v = self.rotate(qkv[0], start), self.rotate(qkv[1], start), qkv[2]
            if caches is not None:
                keys, values = caches[i]
                keys[:, :, start : start + 1], values[:, :, start : start + 1] = k, v
                k, v = keys[:, :, : start + 1], values[:, :, : start + 1]
            mixed = F.scaled_dot_product_attention(q, k, v, is_causal=caches is None)
            x = x + F.linear(mixed.transpose(1, 2).reshape(batch, length, width), layer["attention_out"])
            h = F.rms_norm(x, (width,), layer["mlp_norm"], 1e-6)
            gate, up = F.linear(h, layer["gate_up"]).chunk(2, dim=-1)
            x = x + F.linear(F.silu(gate) * up, layer["down"])
        return F.rms_norm(x, (width,), self.norm, 1e-6)

    def draw(self, last: torch.Tensor) -> torch.Tensor:
        return torch.multinomial(F.linear(last, self.head).softmax(-1), 1)

    @torch.inference_mode()
    def cached(self, batch: int, tokens: int) -> torch.Tensor:
        """Draws the first `tokens` codes of each grid."""
        shape = (batch, self.heads, self.tokens, 2 * self.cos.shape[1])
        caches = [(torch.empty(shape), torch.empty(shape)) for _ in self.layers]
        codes = torch.empty((batch, 0), dtype=torch.long)
        for position in range(tokens):
            x = self.tokens_in(codes[:, position - 1 :] if position else codes, position)
            codes = torch.cat([codes, self.draw(self.hidden(x, position, caches)[:, 0])], dim=1)
        return codes

    @torch.inference_mode()
    def uncached_step(self, codes: torch.Tensor) -> torch.Tensor:
        """Draws the next code of each grid from a pass over all before it."""
        return self.draw(self.hidden(self.tokens_in(codes, 0), 0, None)[:, -1])

    @torch.inference_mode()
    def logits(self, codes: torch.Tensor) -> torch.Tensor:
        """Logits at all positions."""
        return F.linear(self.hidden(self.tokens_in(codes[:, :-1], 0), 0, None), self.head)


def seconds(function: Callable[[], Any]) -> float:
    """Wall time of one call."""
    began = time.perf_counter()
    function()
    return time.perf_counter() - began


def check_same_network(model: GPT, variables: Any, other: TorchGPT) -> float:
    """Largest difference of the logits of the two sides on random codes.

    Raises:
      RuntimeError: they are not the same network.
    """
    codes = np.random.default_rng(0).integers(0, model.codebook_size, (1, model.positions))
    grids = jnp.asarray(codes, jnp.int32).reshape(1, *model.grid)
    ours = np.asarray(jax.jit(model.apply)(variables, grids)).reshape(1, model.positions, -1)
    difference = float(np.abs(ours - other.logits(torch.from_numpy(codes)).numpy()).max())
    if difference > 1e-3:
        raise RuntimeError(f"the two networks differ: logits by up to {difference}")
    return difference


def fastest_threads(other: TorchGPT, batch: int) -> int:
    """PyTorch's faster number of threads, of one and all cores, over a few tokens in turn."""
    choices = sorted({1, len(os.sched_getaffinity(0))})
    best = dict.fromkeys(choices, float("inf"))
    for _ in range(4):
        for threads in choices:
            torch.set_num_threads(threads)
            best[threads] = min(best[threads], seconds(lambda: other.cached(batch, 12)))
    return min(best, key=best.__getitem__)


def main() -> None:
    """Runs the rounds and prints, and if asked writes, the figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--codes", type=int, default=1024, help="size of the codebook")
    parser.add_argument("--quick", action="store_true", help="grids of 4 x 4, two rounds")
    parser.add_argument("-o", "--output", type=Path)
    arguments = parser.parse_args()
    rounds = 2 if arguments.quick else arguments.rounds

    model = GPT(arguments.codes, (4, 4) if arguments.quick else (16, 16))
    variables = jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, *model.grid), jnp.int32))
    other = TorchGPT(model, variables["params"])
    difference, tokens = check_same_network(model, variables, other), model.positions
    keys = iter(jax.random.split(jax.random.key(1), 1000))

    def ours(batch: int) -> float:
        return seconds(lambda: sample_gpt(model, variables, next(keys), num=batch).block_until_ready())

    def torch_cached(batch: int) -> float:
        return seconds(lambda: other.cached(batch, tokens))

    def torch_uncached(batch: int) -> float:
        taken = [
            seconds(functools.partial(other.uncached_step, torch.zeros((batch, known), dtype=torch.long)))
            for known in range(STRIDE // 2, tokens, STRIDE)
        ]
        return statistics.fmean(taken) * tokens

    sides = {"vq_jax": ours, "torch_cached": torch_cached, "torch_uncached": torch_uncached}
    batches = {}
    for batch in (1, 8):
        threads = fastest_threads(other, batch)
        torch.set_num_threads(threads)
        compile_seconds = ours(batch)
        rows: list[dict[str, float]] = []
        for number in range(rounds):
            names = list(sides)
            names = names[number % 3 :] + names[: number % 3]
            took = {name: sides[name](batch) for name in names}
            rows.append({name: batch * tokens / took[name] for name in sides})
            print(batch, {name: round(rate, 1) for name, rate in rows[-1].items()}, flush=True)
        batches[str(batch)] = {
            "tokens_per_second": {name: statistics.median(row[name] for row in rows) for name in sides},
            "ratio_to_torch_cached": statistics.median(r["vq_jax"] / r["torch_cached"] for r in rows),
            "ratio_to_torch_uncached": statistics.median(r["vq_jax"] / r["torch_uncached"] for r in rows),
            "torch_threads": threads,
            "first_call_seconds": compile_seconds,
            "rounds": rows,
        }

    summary = {
        "device": f"{jax.devices()[0].device_kind}, {platform.machine()}",
        "cores": len(os.sched_getaffinity(0)),
        "jax": jax.__version__,
        "torch": torch.__version__,
        "network": {"layers": model.num_layers, "width": model.width, "codes": model.codebook_size},
        "tokens": tokens,
        "largest_difference_of_logits": difference,
        "batches": batches,
    }
    for batch, figures in batches.items():
        print(
            f"batch {batch}: {figures['ratio_to_torch_cached']:.2f} x torch with a cache, "
            f"{figures['ratio_to_torch_uncached']:.1f} x torch without"
        )
    if arguments.output:
        arguments.output.write_text(json.dumps(summary, indent=2) + "\n")


if __name__ == "__main__":
    main()
