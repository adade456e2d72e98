"""Our VQ-VAE against dm-haiku's: the same recipe, pictures and steps, in one run, the two in turn.

The recipe is that of van den Oord et al. 2017 as its authors released it (hidden 128, residual hidden
32, two residual layers, 512 codes of 64, EMA 0.99, commitment 0.25, Adam 3e-4, reconstruction loss
divided by the data's variance) on 32-px crops of the embedded photographs, batch 32. Haiku's side is
written here from its released example's description with haiku's own layers and quantizer, one jitted
step, fed with batches made beforehand. Ours is `jit_train_step` fed by our input pipeline, which is
part of its time.

Needs: pip install "vq-jax[parity]"
Run:   python experiments/benchmarks/vqvae_vs_haiku.py --steps 1000 --seeds 3 --output results.json
"""

import argparse
import dataclasses
import json
import platform
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import optax

from vq_jax import ops
from vq_jax.configs import DataConfig, Losses, OptimizerConfig
from vq_jax.data import open_source, test_batches, train_batches
from vq_jax.nn import ResidualDecoder, ResidualEncoder, VectorQuantizerEMA, VQModel
from vq_jax.train import make_mesh, make_optimizer, shard_local_batch
from vq_jax.train.jit import jit_train_step
from vq_jax.train.sharding import init_state_sharded

CODES, WIDTH, HIDDEN, RESIDUAL, LAYERS = 512, 64, 128, 32, 2
LEARNING_RATE = 3e-4
BLOCK = 50  # steps that one side takes before the other's turn


@dataclasses.dataclass
class Side:
    """One contestant: a step to take, a way to evaluate, and the seconds that its steps took."""

    step: Any
    evaluate: Any
    seconds: list[float] = dataclasses.field(default_factory=list)


def haiku_forward(images: jax.Array, is_training: bool) -> dict[str, Any]:
    """Encoder, quantizer and decoder of the recipe in haiku's own layers."""

    def residual(x: jax.Array) -> jax.Array:
        for _ in range(LAYERS):
            h = hk.Conv2D(RESIDUAL, 3)(jax.nn.relu(x))
            x = x + hk.Conv2D(HIDDEN, 1)(jax.nn.relu(h))
        return jax.nn.relu(x)

    x = jax.nn.relu(hk.Conv2D(HIDDEN // 2, 4, stride=2)(images))
    x = jax.nn.relu(hk.Conv2D(HIDDEN, 4, stride=2)(x))
    z = hk.Conv2D(WIDTH, 1)(residual(hk.Conv2D(HIDDEN, 3)(x)))
    quantizer = hk.nets.VectorQuantizerEMA(WIDTH, CODES, commitment_cost=0.25, decay=0.99)
    quantized = quantizer(z, is_training=is_training)
    x = residual(hk.Conv2D(HIDDEN, 3)(quantized["quantize"]))
    x = jax.nn.relu(hk.Conv2DTranspose(HIDDEN // 2, 4, stride=2)(x))
    return {**quantized, "picture": hk.Conv2DTranspose(3, 4, stride=2)(x)}


def haiku_side(seed: int, stream: Iterator[np.ndarray], variance: float, sample: np.ndarray) -> Side:
    """Haiku's recipe; the pictures are normalised in its jitted step as in ours."""
    model = hk.transform_with_state(haiku_forward)
    params, state = model.init(jax.random.key(seed), ops.normalize_pictures(sample), True)
    optimizer = optax.adam(LEARNING_RATE)
    carry = [params, state, optimizer.init(params)]

    @jax.jit
    def step(params: Any, state: Any, opt_state: Any, pictures: Any) -> Any:
        images = ops.normalize_pictures(pictures)

        def loss(params: Any) -> Any:
            out, new_state = model.apply(params, state, None, images, True)
            error = jnp.mean(jnp.square(out["picture"] - images)) / variance
            return error + out["loss"], new_state

        (value, new_state), grads = jax.value_and_grad(loss, has_aux=True)(params)
        updates, opt_state = optimizer.update(grads, opt_state)
        return optax.apply_updates(params, updates), new_state, opt_state, value

    def take() -> None:
        *carry[:], _ = step(*carry, next(stream))
        jax.block_until_ready(carry)

    @jax.jit
    def reconstruct(params: Any, state: Any, pictures: Any) -> Any:
        out, _ = model.apply(params, state, None, ops.normalize_pictures(pictures), False)
        return out["picture"], out["encoding_indices"]

    return Side(take, lambda pictures: reconstruct(carry[0], carry[1], pictures))


def our_side(seed: int, batches: Iterator[Any], variance: float, threshold: float) -> Side:
    """The same recipe with our layers, revival on, through the library's own step and pipeline."""
    shared: Any = {"channels": HIDDEN, "residual_channels": RESIDUAL, "num_res_blocks": LAYERS}
    model = VQModel(
        ResidualEncoder(latent_channels=WIDTH, **shared),
        VectorQuantizerEMA(CODES, WIDTH, revive_threshold=threshold),
        ResidualDecoder(out_channels=3, **shared),
    )
    mesh = make_mesh()
    optimizer = make_optimizer(OptimizerConfig(learning_rate=LEARNING_RATE), steps=1)
    key = jax.random.key(seed)
    carry = [init_state_sharded(key, (32, 32, 3), mesh, model=model, optimizer=optimizer)]
    losses = Losses(reconstruction_weight=1.0 / variance)
    step = jit_train_step(mesh, model=model, optimizer=optimizer, losses=losses)

    def take() -> None:
        batch = shard_local_batch({"image": next(batches)["image"]}, mesh)
        carry[0], _ = step(carry[0], batch, key, None)
        jax.block_until_ready(carry[0])

    @jax.jit
    def reconstruct(state: Any, pictures: Any) -> Any:
        variables = {"params": state.params, "codebook": state.codebook}
        out = model.apply(variables, ops.normalize_pictures(pictures))
        return out.reconstruction, out.indices

    return Side(take, lambda pictures: reconstruct(carry[0].generator, pictures))


def figures(side: Side, pictures: np.ndarray) -> dict[str, float]:
    """Normalised error and code use on the held-out pictures, median seconds a step."""
    error, codes = 0.0, []
    for batch in np.split(pictures, range(64, len(pictures), 64)):
        decoded, indices = side.evaluate(batch)
        error += float(jnp.sum(jnp.square(decoded - ops.normalize_pictures(batch))))
        codes.append(np.asarray(indices).ravel())
    counts = np.bincount(np.concatenate(codes), minlength=CODES)
    unit = pictures.astype(np.float64) / 127.5 - 1.0
    return {
        "nmse": float(error / unit.size / unit.var()),
        "perplexity": float(ops.perplexity(jnp.asarray(counts, jnp.float32))),
        "used_codes": int((counts > 0).sum()),
        "step_ms": 1e3 * statistics.median(side.seconds),
    }


def main() -> None:
    """Runs the seeds and prints, and if asked writes, the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--revive-threshold", type=float, default=0.03)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()

    data = DataConfig(source="photos", image_size=32, batch_size=32, crops_per_picture=64)
    train_source = open_source("photos", "train", data, 3)
    held_out = open_source("photos", "test", data, 3)
    test = np.concatenate(
        [batch["image"][batch["valid"]] for batch in test_batches(held_out, data, batch_size=64, limit=1024)]
    )
    pixels = np.concatenate([train_source[i]["image"].ravel() for i in range(len(train_source))])
    variance = float((pixels / 127.5).var())

    rows = []
    for seed in range(arguments.seeds):
        with train_batches(train_source, data, seed=seed) as made:
            stored = [next(made)["image"] for _ in range(arguments.steps + 1)]
        with train_batches(train_source, data, seed=seed) as batches:
            sides = {
                "haiku": haiku_side(seed, iter(stored), variance, stored[0]),
                "vq_jax": our_side(seed, batches, variance, arguments.revive_threshold),
            }
            for side in sides.values():
                side.step()  # compiles
            for start in range(1, arguments.steps, BLOCK):
                for side in sides.values():
                    for _ in range(min(BLOCK, arguments.steps - start)):
                        began = time.perf_counter()
                        side.step()
                        side.seconds.append(time.perf_counter() - began)
        for name, side in sides.items():
            rows.append({"side": name, "seed": seed, **figures(side, test)})
            print(rows[-1], flush=True)

    means = {
        name: {
            key: statistics.fmean(row[key] for row in rows if row["side"] == name)
            for key in ("nmse", "perplexity", "used_codes", "step_ms")
        }
        for name in ("haiku", "vq_jax")
    }
    summary = {
        "device": f"{jax.devices()[0].device_kind}, {platform.machine()}",
        "jax": jax.__version__,
        "steps": arguments.steps,
        "held_out_crops": len(test),
        "means": means,
        "step_ratio": means["vq_jax"]["step_ms"] / means["haiku"]["step_ms"],
        "rows": rows,
    }
    print(json.dumps(summary["means"], indent=2), f"step ratio {summary['step_ratio']:.3f}")
    if arguments.output:
        arguments.output.write_text(json.dumps(summary, indent=2) + "\n")


if __name__ == "__main__":
    main()
