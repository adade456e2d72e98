"""Does a discriminator ruin the reconstructions, or the codebook? The same run with one and without.

The preset vqgan-photos (64-px crops of photographs, two codes of 256), its discriminator on from step 0 and
its adversarial weight rising, against the run without a discriminator: same seed, pictures and
steps, no perceptual loss in either, so that the two reconstruction losses mean the same. It prints the
reconstruction loss (L1, mean of the last 200 steps) and the codes used in those steps, and plots the curves.

Needs: pip install vq-jax
Run:   python experiments/benchmarks/gan_stability.py --steps 2000 --output gan_stability.json \
           --plot gan_stability.png
"""

import argparse
import dataclasses
import json
import platform
from pathlib import Path
from typing import Any

import jax
import numpy as np

from vq_jax import ops
from vq_jax.configs import ExperimentConfig
from vq_jax.configs.presets import load_preset
from vq_jax.data import open_source, train_batches
from vq_jax.pretrained.build import build_model, image_shape
from vq_jax.train import make_mesh, shard_local_batch
from vq_jax.train.jit import jit_train_step
from vq_jax.train.sharding import init_state_sharded
from vq_jax.train.tasks.tokenizer import networks

TAIL = 200  # last steps, over which figures are told
EVERY = 20  # steps a point of the curves, each their mean
CURVES = (
    "reconstruction_loss",
    "usage",
    "perplexity",
    "adversarial_weight",
    "discriminator/loss",
    "discriminator/logits_real",
    "discriminator/logits_fake",
)


def run(config: ExperimentConfig) -> dict[str, Any]:
    """Trains; returns curves and the figures of the last steps."""
    mesh, model = make_mesh(), build_model(config)
    parts = networks(config, model)
    key = jax.random.key(config.training.seed)
    state = init_state_sharded(key, image_shape(config), mesh, **parts)
    step = jit_train_step(mesh, losses=config.losses, **parts)
    encode = jax.jit(
        lambda generator, image: model.apply(
            {"params": generator.params, "codebook": generator.codebook},
            ops.normalize_pictures(image),
            method="encode",
        )
    )
    source = open_source(config.data.source, "train", config.data, config.model.image_channels)
    specs = model.code_specs(image_shape(config))
    used = np.zeros((specs.codes_per_position, specs.codebook_size), bool)
    steps, history = config.training.steps, []
    with train_batches(source, config.data, seed=config.training.seed) as batches:
        for number in range(steps):
            batch = next(batches)
            batch.pop("broken")
            inputs = shard_local_batch(batch, mesh)
            if number >= steps - TAIL:
                codes = np.asarray(encode(state.generator, inputs["image"]))
                for stage, column in enumerate(codes.reshape(-1, specs.codes_per_position).T):
                    used[stage, np.unique(column)] = True
            state, metrics = step(state, inputs, key, None)
            history.append({name: metrics[name] for name in CURVES if name in metrics})
            if number % 100 == 99:
                print(f"step {number + 1}/{steps}", flush=True)
    values = {name: np.array(jax.device_get([row[name] for row in history])) for name in history[0]}
    return {
        "reconstruction_loss": float(np.mean(values["reconstruction_loss"][-TAIL:])),
        "codes_used": int(used.sum()),
        "usage": float(used.mean()),
        "curves": {name: value.reshape(-1, EVERY).mean(1).tolist() for name, value in values.items()},
    }


def plot(path: Path, results: dict[str, Any]) -> None:
    """Curves of both runs."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 3.4), layout="constrained")
    axes = figure.subplots(1, 4)
    panels = (
        ("reconstruction_loss",),
        ("perplexity",),
        ("adversarial_weight",),
        ("discriminator/logits_real", "discriminator/logits_fake"),
    )
    for ax, names in zip(axes, panels, strict=True):
        for run_name, result in results.items():
            for name in names:
                curve = result["curves"].get(name)
                if curve is not None:
                    label = run_name if len(names) == 1 else name
                    ax.plot(EVERY * (1 + np.arange(len(curve))), curve, label=label)
        ax.set(xlabel="step", title=names[0] if len(names) == 1 else "logits")
        ax.legend()
    axes[0].set_yscale("log")
    figure.savefig(path, dpi=80)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--adversarial-weight", type=float, default=0.1)
    parser.add_argument("--ramp", type=int, default=1000, help="steps in which that weight rises from zero")
    parser.add_argument("--output", type=Path, help="JSON to write")
    parser.add_argument("--plot", type=Path, help="PNG to write")
    arguments = parser.parse_args()
    preset = load_preset("vqgan-photos")
    losses = dataclasses.replace(
        preset.losses,
        perceptual_weight=0.0,
        disc_start=0,
        adversarial_weight=arguments.adversarial_weight,
        adversarial_start=0,
        adversarial_ramp=arguments.ramp,
    )
    training = dataclasses.replace(preset.training, steps=arguments.steps)
    with_one = dataclasses.replace(preset, losses=losses, training=training)
    without = dataclasses.replace(with_one, losses=dataclasses.replace(losses, adversarial_weight=0.0))
    results = {"with a discriminator": run(with_one), "without": run(without)}
    ratio = results["with a discriminator"]["reconstruction_loss"] / results["without"]["reconstruction_loss"]
    for name, result in results.items():
        print(f"{name}: L1 {result['reconstruction_loss']:.4f}, {result['codes_used']} codes used")
    print(f"reconstruction loss with over without: {ratio:.3f}")
    if arguments.plot:
        plot(arguments.plot, results)
    if arguments.output:
        report = {
            "device": f"{jax.devices()[0].device_kind}, {jax.device_count()}",
            "python": platform.python_version(),
            "jax": jax.__version__,
            "steps": arguments.steps,
            "adversarial_weight": losses.adversarial_weight,
            "adversarial_ramp": losses.adversarial_ramp,
            "loss_ratio": ratio,
            "runs": results,
        }
        arguments.output.write_text(json.dumps(report) + "\n")


if __name__ == "__main__":
    main()
