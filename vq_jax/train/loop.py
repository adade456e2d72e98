"""A run, from configuration to report: the only part of training that reads and writes files."""

import contextlib
import dataclasses
import logging
import math
import time
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath

from vq_jax import nn, ops
from vq_jax.config import ExperimentConfig, Phase
from vq_jax.data import BatchIterator, Source, open_source, train_batches
from vq_jax.errors import UserError
from vq_jax.nn import VQModel
from vq_jax.train import report, rundir, sharding
from vq_jax.train.checkpoint import Checkpointer
from vq_jax.train.logging import MetricsLog, Progress
from vq_jax.train.optimizers import make_optimizer, make_schedule
from vq_jax.train.signals import StopRequest
from vq_jax.train.state import TrainState, init_state
from vq_jax.train.validation import Validation
from vq_jax.types import Metrics, Params

_INTERVALS = ("log_every", "eval_every", "image_every", "save_every")
_DISCRIMINATORS = (
    "discriminator_loss",
    "discriminator_grad_norm",
    "logits_real",
    "logits_fake",
    "lecam_loss",
    "r1_penalty",
)
_log = logging.getLogger("vq_jax")


class NonFiniteError(RuntimeError):
    """A metric that is not finite: the run was stopped, its last checkpoint is from before."""


@dataclasses.dataclass(frozen=True)
class RunResult:
    """How a run ended: at which step, stopped by which signal (None: finished), its last figures."""

    workdir: epath.Path
    step: int
    signal: int | None
    figures: dict[str, float]


def compute_dtype(name: str) -> Any:
    """The dtype of `training.dtype`: auto is bfloat16 where the hardware multiplies it fast."""
    if name != "auto":
        return jnp.dtype(name)
    device = jax.devices()[0]
    fast = device.platform == "tpu" or (
        device.platform == "gpu" and float(getattr(device, "compute_capability", 0.0)) >= 8.0
    )
    return jnp.dtype("bfloat16" if fast else "float32")


def build_model(config: ExperimentConfig) -> VQModel:
    """Makes the model of a configuration."""
    return config.model.build(head=config.losses.head, dtype=compute_dtype(config.training.dtype))


def image_shape(config: ExperimentConfig) -> tuple[int, int, int]:
    """Shape of a training picture."""
    return (config.data.image_size, config.data.image_size, config.model.image_channels)


def networks(config: ExperimentConfig, model: VQModel) -> dict[str, Any]:
    """The networks and optimizers of a configuration, as `init_state` takes them."""
    steps = config.training.steps
    parts: dict[str, Any] = {"model": model, "optimizer": make_optimizer(config.optimizer, steps)}
    if config.losses.has_discriminator:
        discriminator = config.discriminator
        parts["discriminator_model"] = discriminator.build(compute_dtype(config.training.dtype))
        parts["discriminator_optimizer"] = make_optimizer(discriminator.optimizer, steps)
    return parts


def abstract_state(config: ExperimentConfig, model: VQModel) -> TrainState:
    """Shapes and shardings of the run's state, for restoring it."""
    mesh = sharding.make_mesh(config.training.mesh_data, config.training.mesh_fsdp)
    ema, parts = config.training.ema_decay > 0, networks(config, model)
    state = jax.eval_shape(
        lambda: init_state(jax.random.key(config.training.seed), image_shape(config), ema=ema, **parts)
    )
    whole = sharding.replicated(mesh)
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=whole), state)


def train(config: ExperimentConfig, workdir: epath.PathLike) -> RunResult:
    """Trains a model, or goes on with the run that is in `workdir`.

    Args:
      config: the run.
      workdir: run directory, local or gs://; made if it is not there.

    Raises:
      UserError: the data, the directory or the configuration cannot be used; nothing was written
        before.
      NonFiniteError: a metric became infinite or not a number.
    """
    workdir = epath.Path(workdir)
    mesh = sharding.make_mesh(config.training.mesh_data, config.training.mesh_fsdp)
    sharding.check_batch_size(config.data.batch_size, mesh)
    channels = config.model.image_channels
    sources = [open_source(config.data.source, split, config.data, channels) for split in ("train", "test")]
    model = build_model(config)
    make_schedule(config.optimizer, config.training.steps)
    losses, perceptual = config.losses, None
    if losses.perceptual_weight > 0:
        weights = nn.load_lpips(losses.perceptual, losses.perceptual_file)
        perceptual = jax.device_put(weights, sharding.replicated(mesh))
    rundir.claim(workdir, config)
    _log.info("%s: %d steps, in %s", config.name, config.training.steps, workdir)
    with (
        StopRequest() as stop,
        Checkpointer(workdir / rundir.CHECKPOINTS, keep=config.training.keep_checkpoints) as saved,
    ):
        return _Run(config, workdir, model, mesh, sources[0], sources[1], saved, perceptual).go(stop)


class _Run:
    """The objects of one run, and its loop."""

    def __init__(
        self,
        config: ExperimentConfig,
        workdir: epath.Path,
        model: VQModel,
        mesh: jax.sharding.Mesh,
        train_source: Source,
        test_source: Source,
        checkpointer: Checkpointer,
        perceptual: Params | None,
    ) -> None:
        self.config, self.workdir, self.model, self.mesh = config, workdir, model, mesh
        self.source = train_source
        self.checkpointer = checkpointer
        self.networks = networks(config, model)
        self.perceptual = perceptual
        self.schedule = make_schedule(config.optimizer, config.training.steps)
        self.rng = jax.device_put(jax.random.key(config.training.seed), sharding.replicated(mesh))
        self.validation = Validation(test_source, config, model, mesh)
        self.broken = 0
        self.state, self.step = self._restore_or_init()
        self._steps: dict[str, Any] = {}

    def _restore_or_init(self) -> tuple[TrainState, int]:
        restored = self.checkpointer.restore_latest(abstract_state(self.config, self.model))
        if restored is None:
            rundir.cut_metrics(self.workdir, 0)
            state = sharding.init_state_sharded(
                jax.random.key(self.config.training.seed),
                image_shape(self.config),
                self.mesh,
                ema=self.config.training.ema_decay > 0,
                **self.networks,
            )
            return state, 0
        if restored.meta["data"] != self.source.fingerprint:
            raise UserError(
                f"the pictures of {self.config.data.source} are not those that the run in "
                f"{self.workdir} began with: give it the same ones, or another --workdir"
            )
        self.broken = restored.meta["broken"]
        rundir.cut_metrics(self.workdir, restored.step)
        _log.info("Going on from the checkpoint of step %d.", restored.step)
        return restored.state, restored.step

    def go(self, stop: StopRequest) -> RunResult:
        """Takes all steps that are left, or as many as come before a signal."""
        config, steps = self.config, self.config.training.steps
        if self.step >= steps:
            _log.info("The run in %s has all its %d steps; nothing to do.", self.workdir, self.step)
            whole = (self.workdir / rundir.REPORT).exists()  # it may have been killed before the end
            figures = self._last_figures() if whole else self._finish()
            return RunResult(self.workdir, self.step, None, figures)
        pending: list[tuple[int, Metrics]] = []  # fetched now and then, never step by step
        clock = _Clock(config.data.batch_size, self.step)
        with (
            contextlib.closing(Progress(self.step, steps, config.data.batch_size)) as progress,
            contextlib.closing(MetricsLog(self.workdir, self.step)) as log,
            self._batches() as batches,
        ):
            while self.step < steps and stop.signal is None:
                phase = self._phase()
                with clock.waiting():
                    batch = next(batches)
                self.broken += int(batch.pop("broken").sum())
                self.state, metrics = self._step_function(phase)(
                    self.state, sharding.put_batch(batch, self.mesh), self.rng, self.perceptual
                )
                self.step += 1
                pending.append((self.step, metrics))
                progress.advance()
                if any(map(self._due, _INTERVALS)):
                    row = {"phase": phase.kind, **_fetch(pending)}
                    pending.clear()
                    row |= clock.lap(self.step)
                    self._record(row, phase, log)
                    progress.show(self.step, row)
                    clock.start(self.step)
            if stop.signal is not None:
                _fetch(pending)  # nothing that is not finite is ever saved
                self._save(None)
        self.checkpointer.wait()
        figures = self._finish() if stop.signal is None else self._last_figures()
        return RunResult(self.workdir, self.step, stop.signal, figures)

    def _record(self, row: dict[str, Any], phase: Phase, log: MetricsLog) -> None:
        """Evaluates, logs, draws and saves, as the step asks for."""
        row["learning_rate"] = float(self.schedule(self.step - 1))
        row["data/broken_pictures"] = self.broken
        save = self._due("save_every")
        if save or self._due("eval_every"):
            validation, _ = self.validation.figures(self.state.generator, _quantize(phase))
            row |= {f"validation/{name}": value for name, value in validation.items()}
            _require_finite(self.step, row)
        log.write(self.step, row)
        if self._due("image_every"):
            decoded = self.validation.reconstructions(self.state.generator, _quantize(phase))
            grid = report.comparison_grid(self.validation.pictures, decoded)
            report.write_png(self.workdir / rundir.IMAGES / f"{self.step}.png", grid)
            log.write_picture(self.step, "reconstructions", grid)
        if save:
            self._save(row["validation/loss"])

    def _batches(self) -> BatchIterator:
        """Training batches from the coming step on: the position is all that a run remembers."""
        return train_batches(
            self.source,
            self.config.data,
            seed=self.config.training.seed,
            start_batch=self.step,
            process_index=jax.process_index(),
            process_count=jax.process_count(),
        )

    def _phase(self) -> Phase:
        """The phase of the coming step; fits the codebook where a phase that asks for it begins."""
        starts = self.config.phase_starts()
        index = max(i for i, start in enumerate(starts) if start <= self.step)
        phase = self.config.phases[index]
        if self.step == starts[index] and phase.kmeans_batches:
            self._fit_codebook(phase.kmeans_batches)
        return phase

    def _fit_codebook(self, num_batches: int) -> None:
        """Sets the codebook by k-means on the encoder's outputs for the batches that come next."""
        encode = jax.jit(
            lambda params, codebook, image: self.model.apply(
                {"params": params, "codebook": codebook},
                ops.normalize_pictures(image),
                method="encode_latents",
            )
        )
        latents, generator = [], self.state.generator
        with self._batches() as batches:
            for _ in range(num_batches):
                image = sharding.put_batch({"image": next(batches)["image"]}, self.mesh)["image"]
                z = encode(generator.params, generator.codebook, image)
                latents.append(z.reshape(-1, z.shape[-1]))
        params, codebook = self.model.quantizer.fit(
            jax.random.fold_in(self.rng, self.step),
            generator.params.get("quantizer", {}),
            generator.codebook["quantizer"],
            jnp.stack(latents),
        )
        new = dataclasses.replace(generator, codebook={**generator.codebook, "quantizer": codebook})
        if params:
            new = dataclasses.replace(new, params={**new.params, "quantizer": params})
        new = jax.device_put(new, sharding.replicated(self.mesh))
        self.state = dataclasses.replace(self.state, generator=new)

    def _step_function(self, phase: Phase) -> Any:
        losses = self.config.losses.at(self.step)
        if (phase.kind, losses) not in self._steps:
            self._steps[phase.kind, losses] = sharding.jit_train_step(
                self.mesh,
                losses=losses,
                phase=phase.kind,
                ema_decay=self.config.training.ema_decay,
                accumulate=self.config.training.accumulate,
                **self.networks,
            )
        return self._steps[phase.kind, losses]

    def _due(self, interval: str) -> bool:
        every = getattr(self.config.training, interval)
        return self.step == self.config.training.steps or self.step % every == 0

    def _save(self, validation_loss: float | None) -> None:
        meta = {"data": self.source.fingerprint, "broken": self.broken}
        self.checkpointer.save(self.step, self.state, meta, validation_loss)

    def _finish(self) -> dict[str, float]:
        quantize = _quantize(self.config.phases[-1])
        _, counts = self.validation.figures(self.state.generator, quantize)
        decoded = self.validation.reconstructions(self.state.generator, quantize)
        figures = report.write_report(
            self.workdir, self.config, self.step, self.validation.pictures, decoded, counts
        )
        return self._last_figures() | figures

    def _last_figures(self) -> dict[str, float]:
        figures: dict[str, float] = {}
        for row in rundir.read_metrics(self.workdir):
            figures |= row
        return figures


class _Clock:
    """Times stretches of steps, and the share of them spent waiting for data."""

    def __init__(self, batch_size: int, step: int) -> None:
        self._batch_size = batch_size
        self.start(step)

    def start(self, step: int) -> None:
        """Begins a stretch after `step`."""
        self._step, self._began, self._waited = step, time.monotonic(), 0.0

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Counts the time inside as waiting."""
        began = time.monotonic()
        yield
        self._waited += time.monotonic() - began

    def lap(self, step: int) -> dict[str, float]:
        """Figures of the stretch that ends with `step`."""
        seconds, steps = time.monotonic() - self._began, step - self._step
        return {
            "time/step_seconds": seconds / steps,
            "time/images_per_second": self._batch_size * steps / seconds,
            "time/data_wait": self._waited / seconds,
        }


def _quantize(phase: Phase) -> bool:
    return phase.kind != "autoencoder"


def _fetch(pending: list[tuple[int, Metrics]]) -> dict[str, float]:
    """Brings metrics to the host and returns the last step's.

    Raises:
      NonFiniteError: one is not finite, with its name and step.
    """
    figures: dict[str, float] = {}
    for step, metrics in jax.device_get(pending):
        figures = {name: float(np.asarray(value)) for name, value in metrics.items()}
        _require_finite(step, figures)
    return figures


def _require_finite(step: int, figures: dict[str, Any]) -> None:
    for name, value in figures.items():
        if isinstance(value, float) and not math.isfinite(value):
            side = "discriminator." if name in _DISCRIMINATORS else ""
            raise NonFiniteError(
                f"{name} is {value} at step {step}: the run was stopped and its last checkpoint "
                f"is from before. Lower {side}optimizer.learning_rate, set {side}optimizer.clip_norm, or "
                "train in float32"
            )
