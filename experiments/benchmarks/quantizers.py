"""All quantizers against each other: the same small network, photographs, steps and seeds, at equal bits.

The network is that of `vqvae-photos` at half its width and depth, on 32-px crops of the embedded photographs
with colours changed at random, trained with that preset's loss and optimizer. Each quantizer has about 10, 14
and 18 bits for every 4x4 pixels, with the fields of its own recipe. On crops of the two held-out photographs:

    nmse      mean squared error over the variance of the pixels
    lpips     LPIPS (AlexNet)
    usage     codes used, of those that the held-out latents can use at most; mean of stages, groups or scales
    entropy   bits that an ideal coder needs for a position, which knows how often each code occurs there;
              of several codes a position, the sum of each by itself

A step, encoding and decoding of a batch are timed in turns with those of `ema` with 1,024 codes, in the same
process, and the fastest call of each counts; `memory` is what the compiled step needs beside its inputs and
outputs. The table has ratios to that `ema`: above 1 is slower, or more.

Results are written after each run and each timing, with the machine it was made on, and what the file already
has is not repeated: runs may come from one machine and timings from another, that was quiet.

Needs: pip install "vq-jax[lpips]"
Run:   python experiments/benchmarks/quantizers.py --output quantizers.json --plot quantizers.png
       (an hour and more on one core, most of it `ibq` and `gumbel` with 2^18 codes; --quantizers, --bits,
       --seeds and --only choose a part)
"""

import argparse
import dataclasses
import functools
import json
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from judging import machine

import vq_jax.configs as configs
from vq_jax import ops
from vq_jax.configs import ExperimentConfig
from vq_jax.configs.presets import load_preset
from vq_jax.configs.quantizers import QuantizerConfig
from vq_jax.data import all_test_batches, open_source, train_batches
from vq_jax.errors import UserError
from vq_jax.evaluate import CodeUsage, Setup, evaluate, evaluation_step, make_evaluators
from vq_jax.host.files import write_atomic
from vq_jax.pretrained.build import build_model, image_shape
from vq_jax.train import make_mesh, shard_local_batch
from vq_jax.train.jit import jit_train_step
from vq_jax.train.sharding import init_state_sharded
from vq_jax.train.tasks.tokenizer import networks
from vq_jax.types import CodeSpecs

SIZES = (10, 14, 18)  # bits a position
WIDTH = 8  # channels of a latent, where a quantizer leaves the choice
BATCH, SIZE, PATCH = 4, 32, 4  # pictures; px
GRID = SIZE // PATCH
REVIVE = 0.02  # times as often as each code of evenly used ones: a code used less is replaced
EVALUATORS = ("reconstruction", "codes", "lpips")
TURNS, SHORTEST = 10, 0.1  # turns of each side; seconds of one
RATIOS = ("step", "encode", "decode", "memory")
SHOWN = ("nmse", "lpips", "usage", "entropy", *(f"{name}_ratio" for name in RATIOS))

Results = dict[str, list[dict[str, Any]]]
"""Rows by part, `runs` and `times`."""

# Levels whose product is about 2^10, 2^14 and 2^18; of a stage or group of two, half the bits.
LEVELS = {10: (8, 5, 5, 5), 14: (8, 8, 8, 6, 5), 18: (8,) * 6}
STAGE_LEVELS = {10: (4, 4, 2), 14: (5, 5, 5), 18: (5, 5, 5, 4)}
GROUP_LEVELS = {10: (8, 4), 14: (8, 4, 4), 18: (8, 8, 8)}
SCALES = (1, 2, 4, 8)


def _threshold(codes: int) -> float:
    return REVIVE * BATCH * GRID**2 / codes


def _ema(codes: int, width: int = WIDTH) -> QuantizerConfig:
    return configs.VectorQuantizerEMAConfig(codes, width, revive_threshold=_threshold(codes))


def _multi_scale(bits: int) -> QuantizerConfig:
    """As many bits for all scales together as `bits` for each position of the last one."""
    codes = round(2 ** (bits * GRID**2 / sum(scale**2 for scale in SCALES)))
    return configs.MultiScaleQuantizerConfig(codes, WIDTH, SCALES, revive_threshold=_threshold(codes))


def cases(steps: int) -> dict[str, Callable[[int], QuantizerConfig]]:
    """By name, a function of the bits a position to a quantizer, for a run of so many steps."""
    return {
        "ema": lambda bits: _ema(2**bits),
        "gradient": lambda bits: configs.VectorQuantizerConfig(
            2**bits, WIDTH, revive_threshold=_threshold(2**bits)
        ),
        "simvq": lambda bits: configs.SimVQConfig(2**bits, WIDTH),
        "ibq": lambda bits: configs.IBQConfig(2**bits, WIDTH),
        "gumbel": lambda bits: configs.GumbelQuantizerConfig(2**bits, WIDTH, anneal_steps=steps),
        "random_projection": lambda bits: configs.RandomProjectionQuantizerConfig(2**bits, WIDTH),
        "fsq": lambda bits: configs.FSQConfig(LEVELS[bits]),
        "lfq": configs.LFQConfig,
        "bsq": configs.BSQConfig,
        "residual:ema": lambda bits: configs.ResidualQuantizerConfig(_ema(2 ** (bits // 2)), num_stages=2),
        "residual_fsq": lambda bits: configs.ResidualFSQConfig(STAGE_LEVELS[bits], num_stages=2),
        "grouped:ema": lambda bits: configs.GroupedQuantizerConfig(_ema(2 ** (bits // 2), WIDTH // 2), 2),
        "grouped:fsq": lambda bits: configs.GroupedQuantizerConfig(
            configs.FSQConfig(GROUP_LEVELS[bits]), num_groups=2
        ),
        "multi_scale": _multi_scale,
    }


def experiment(quantizer: QuantizerConfig, steps: int) -> ExperimentConfig:
    """The run of a quantizer: `vqvae-photos` in small."""
    preset = load_preset("vqvae-photos")
    model = dataclasses.replace(
        preset.model,
        quantizer=quantizer,
        patch_size=PATCH,
        channels=64,
        residual_channels=32,
        num_res_blocks=2,
    )
    data = dataclasses.replace(preset.data, image_size=SIZE, batch_size=BATCH)
    training = dataclasses.replace(preset.training, steps=steps, ema_decay=0.0, dtype="float32")
    return dataclasses.replace(preset, model=model, data=data, training=training)


class Contestant:
    """A quantizer in its network: the compiled programs, and the state that they work on."""

    def __init__(self, quantizer: QuantizerConfig, steps: int) -> None:
        self.config = experiment(quantizer, steps)
        self.mesh, model = make_mesh(), build_model(self.config)
        self.specs: CodeSpecs = model.code_specs(image_shape(self.config))
        self._parts = networks(self.config, model)
        self.start(0)
        self._batch = shard_local_batch({"image": pictures(0, 1)[0]}, self.mesh)
        step: Any = jit_train_step(self.mesh, losses=self.config.losses, **self._parts)
        self._step = step.lower(self.state, self._batch, self._key, None).compile()
        self.memory = int(self._step.memory_analysis().temp_size_in_bytes)
        self.evaluators = make_evaluators(EVALUATORS, Setup(self.specs, self.config.losses.reconstruction))
        self._evaluate = jax.jit(functools.partial(evaluation_step, model=model, evaluators=self.evaluators))

        def encode(params: Any, codebook: Any, pictures: jax.Array) -> Any:
            images = ops.normalize_pictures(pictures)
            return model.apply({"params": params, "codebook": codebook}, images, method="encode")

        def decode(params: Any, codebook: Any, codes: Any) -> Any:
            decoded: Any = model.apply({"params": params, "codebook": codebook}, codes, method="decode")
            return ops.to_uint8(decoded)

        self._encode, self._decode = jax.jit(encode), jax.jit(decode)

    def start(self, seed: int) -> None:
        """Makes the first state."""
        self._key = jax.random.key(seed)
        self.state = init_state_sharded(self._key, image_shape(self.config), self.mesh, **self._parts)

    def train(self, seed: int) -> None:
        """Trains from the first step to the last."""
        self.start(seed)
        for batch in pictures(seed, self.config.training.steps):
            self.state, _ = self._step(
                self.state, shard_local_batch({"image": batch}, self.mesh), self._key, None
            )

    def figures(self) -> dict[str, float]:
        """Figures on the held-out pictures."""
        params, codebook = self._variables()
        found = evaluate(lambda batch: self._evaluate(params, codebook, batch), held_out(), self.evaluators)
        usage: Any = self.evaluators["codes"]
        figures = {name: found.figures[name] for name in ("nmse", "psnr", "lpips") if name in found.figures}
        return {**figures, **code_figures(self.specs, usage, found.states["codes"])}

    def programs(self) -> dict[str, Callable[[], Any]]:
        """What is timed by name, each on one batch; a step changes the state."""
        params, codebook = self._variables()
        codes = self._encode(params, codebook, self._batch["image"])
        state = [jax.tree.map(lambda leaf: leaf.copy(), self.state)]  # which the step donates

        def step() -> Any:
            state[0], metrics = self._step(state[0], self._batch, self._key, None)
            return metrics

        return {
            "step": step,
            "encode": lambda: self._encode(params, codebook, self._batch["image"]),
            "decode": lambda: self._decode(params, codebook, codes),
        }

    def _variables(self) -> tuple[Any, Any]:
        return self.state.generator.params, self.state.generator.codebook


def code_figures(specs: CodeSpecs, usage: CodeUsage, state: Any) -> dict[str, float]:
    """Bits and entropy of a position of the finest grid, and usage, see the module."""
    grids = jax.tree.leaves(specs)
    positions = max(math.prod(spec.shape) for spec in grids)
    states = jax.tree.leaves(state)
    rows = [(spec, counts) for spec, each in zip(grids, states, strict=True) for counts in each]
    bits = entropy = 0.0
    shares = []
    for spec, counts in rows:
        share = np.asarray(counts, np.float64) / counts.sum()
        used = share[share > 0]
        weight = math.prod(spec.shape) / positions
        bits += weight * math.log2(spec.codebook_size)
        entropy -= weight * float((used * np.log2(used)).sum())
        shares.append(len(used) / min(spec.codebook_size, float(counts.sum())))
    return {"bits_a_position": bits, "entropy": entropy, "usage": float(np.mean(shares))}


@functools.cache
def pictures(seed: int, steps: int) -> list[np.ndarray]:
    """The batches of a run, uint8 [B, H, W, 3], the same ones for all quantizers."""
    data = experiment(_ema(2), steps).data
    with train_batches(open_source(data.source, "train", data, 3), data, seed=seed) as batches:
        return [next(batches)["image"] for _ in range(steps)]


@functools.cache
def held_out() -> list[dict[str, np.ndarray]]:
    """Batches of crops of the held-out photographs, side by side."""
    data = experiment(_ema(2), 1).data
    made = all_test_batches(open_source(data.source, "test", data, 3), data, batch_size=BATCH)
    return [{name: batch[name] for name in ("image", "valid")} for batch in made]


def fastest(sides: Sequence[Callable[[], Any]], turns: int = TURNS) -> list[float]:
    """Seconds of each side's fastest call; a turn is an untimed call, then SHORTEST seconds or one call."""
    best = [math.inf] * len(sides)
    for _ in range(turns):
        for number, side in enumerate(sides):
            jax.block_until_ready(side())  # the other one's memory is taken over
            end = time.perf_counter() + SHORTEST
            while True:
                began = time.perf_counter()
                jax.block_until_ready(side())
                now = time.perf_counter()
                best[number] = min(best[number], now - began)
                if now >= end:
                    break
    return best


def timed(contestant: Contestant, plain: Contestant) -> dict[str, float]:
    """Milliseconds and MiB of a quantizer, and their ratios to the plain one's."""
    figures = {"memory_mib": contestant.memory / 2**20, "memory_ratio": contestant.memory / plain.memory}
    ours, others = contestant.programs(), plain.programs()
    for name in ours:
        seconds, of_plain = fastest([ours[name], others[name]])
        figures |= {f"{name}_ms": 1e3 * seconds, f"{name}_ratio": seconds / of_plain}
    return figures


def read(path: Path | None, settings: dict[str, Any]) -> Results:
    """The runs and timings that a file of results has; none where there is no file.

    Raises:
      UserError: they were made with other settings.
    """
    if path is None or not path.exists():
        return {"runs": [], "times": []}
    report = json.loads(path.read_text())
    if report["settings"] != settings:
        raise UserError(
            f"expected runs with {settings}, {path} has some with {report['settings']}: give another --output"
        )
    return {part: report[part] for part in ("runs", "times")}


def of(rows: Sequence[dict[str, Any]], name: str, bits: int) -> list[dict[str, Any]]:
    """The rows of a quantizer of so many bits."""
    return [row for row in rows if (row["quantizer"], row["bits"]) == (name, bits)]


def means(results: Results, name: str, bits: int) -> dict[str, float]:
    """Means over the seeds, and the ratios of the timing; without what was not measured."""
    chosen = [*of(results["runs"], name, bits), *of(results["times"], name, bits)]
    found: dict[str, float] = {}
    for figure in SHOWN:
        values = [row[figure] for row in chosen if figure in row]
        if values:
            found[figure] = float(np.mean(values))
    return found


def table(results: Results) -> str:
    """A line of Markdown for each quantizer; in a cell, a figure for each of the sizes."""
    rows = results["runs"]
    sizes = sorted({row["bits"] for row in rows})
    formats = {"nmse": ".4f", "lpips": ".3f", "usage": ".0%", "entropy": ".1f"}
    heads = [figure.removesuffix("_ratio") for figure in SHOWN]
    lines = [
        f"| {' / '.join(map(str, sizes))} bits | " + " | ".join(heads) + " |",
        "|---" * (1 + len(heads)) + "|",
    ]
    for name in dict.fromkeys(row["quantizer"] for row in rows):
        found = [means(results, name, bits) for bits in sizes]
        cells = [
            " / ".join(
                format(of_size[figure], formats.get(figure, ".3g")) if figure in of_size else "-"
                for of_size in found
            )
            for figure in SHOWN
        ]
        lines.append(f"| `{name}` | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def plot(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Plots error and LPIPS by the bits of a position, a line for each quantizer with its seeds' range."""
    import matplotlib
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 5), layout="constrained")
    colours = matplotlib.colormaps["tab20"].colors
    axes = figure.subplots(1, 2)
    panels = {"nmse": "normalised MSE", "lpips": "LPIPS (AlexNet)"}
    for ax, (key, label) in zip(axes, panels.items(), strict=True):
        for number, name in enumerate(dict.fromkeys(row["quantizer"] for row in rows)):
            own = [row for row in rows if row["quantizer"] == name and key in row]
            points = [
                (np.mean([row["bits_a_position"] for row in own if row["bits"] == bits]), values)
                for bits in sorted({row["bits"] for row in own})
                if (values := [row[key] for row in own if row["bits"] == bits])
            ]
            middle = [float(np.mean(values)) for _, values in points]
            spread = [
                [mean - min(values) for mean, (_, values) in zip(middle, points, strict=True)],
                [max(values) - mean for mean, (_, values) in zip(middle, points, strict=True)],
            ]
            style = {"color": colours[number % 20], "marker": "osD^v<>PX*ph8d"[number % 14], "capsize": 2}
            ax.errorbar([bits for bits, _ in points], middle, spread, label=name, **style)
        ax.set(xlabel="bits a position", ylabel=label, yscale="log")
        ax.grid(alpha=0.3, which="both")
    axes[-1].legend(fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    figure.savefig(path, dpi=80)


def run(options: argparse.Namespace, results: Results, save: Callable[[], None]) -> None:
    """Adds the runs and the timings that the results lack, from few bits to many, and saves after each."""
    plain: Contestant | None = None
    made = cases(options.steps)
    for bits in sorted(options.bits):
        for name in options.quantizers:
            key = {"quantizer": name, "bits": bits}
            have = {row["seed"] for row in of(results["runs"], name, bits)}
            missing = sorted(set(options.seeds) - have) if options.only != "times" else []
            timing = options.only != "runs" and not of(results["times"], name, bits)
            if not (missing or timing):
                continue
            contestant = Contestant(made[name](bits), options.steps)
            for seed in missing:
                began = time.perf_counter()
                contestant.train(seed)
                found = contestant.figures()
                results["runs"].append({**key, "seed": seed, **found, "machine": machine()})
                tell(f"{name} {bits} seed {seed}", found, began)
                save()
            if timing:
                began = time.perf_counter()
                plain = plain or Contestant(_ema(2 ** min(SIZES)), options.steps)
                found = timed(contestant, plain)
                results["times"].append({**key, **found, "machine": machine()})
                tell(f"{name} {bits} times", found, began)
                save()


def tell(title: str, found: dict[str, float], began: float) -> None:
    """Prints figures and the seconds since `began`."""
    shown = ", ".join(f"{key} {found[key]:.4g}" for key in SHOWN if key in found)
    print(f"{title}: {shown} ({time.perf_counter() - began:.0f} s)", flush=True)


def main() -> None:
    known = list(cases(1))
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quantizers", nargs="+", choices=known, default=known, metavar="NAME")
    parser.add_argument("--bits", nargs="+", type=int, choices=SIZES, default=SIZES)
    parser.add_argument("--seeds", nargs="+", type=int, default=(0, 1, 2))
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--only", choices=("runs", "times"), help="only trainings, or only timings")
    parser.add_argument("--output", type=Path, help="JSON to write, or to go on with")
    parser.add_argument("--plot", type=Path, help="PNG to write")
    options = parser.parse_args()
    settings = {"steps": options.steps, "batch": BATCH, "size": SIZE, "width": WIDTH}
    try:
        results = read(options.output, settings)
    except UserError as error:
        parser.error(str(error))

    def save() -> None:
        for rows in results.values():
            rows.sort(key=lambda row: (known.index(row["quantizer"]), row["bits"], row.get("seed", 0)))
        if options.output:
            report = {"settings": settings, **results}
            write_atomic(options.output, json.dumps(report, indent=1) + "\n")

    run(options, results, save)
    print(table(results), end="")
    if options.plot:
        plot(options.plot, results["runs"])


if __name__ == "__main__":
    main()
