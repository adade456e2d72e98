"""The run of a tokenizer: it trains one on pictures, in phases, with a discriminator where there is one."""

import dataclasses
import logging
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from jax.sharding import Mesh

from vq_jax import nn, ops
from vq_jax.configs.losses import Losses
from vq_jax.configs.runs import ExperimentConfig, RestorerConfig
from vq_jax.configs.training import Phase, PhaseKind
from vq_jax.data import class_names, open_splits, train_batches
from vq_jax.data.open import describe
from vq_jax.host.dtypes import compute_dtype
from vq_jax.nn import VQModel
from vq_jax.nn.features.lpips import lpips_shapes
from vq_jax.pretrained.build import build_model, image_shape
from vq_jax.runs import grids, report
from vq_jax.train import jit, sharding
from vq_jax.train.initial_weights import initial_tokenizer
from vq_jax.train.optimizers import make_optimizer
from vq_jax.train.prefetch import DeviceBatches
from vq_jax.train.state import TrainState, init_state
from vq_jax.train.tasks.base import ADVERSARIAL_GROUPS
from vq_jax.train.tasks.check import (
    abstract_networks,
    abstract_pictures,
    check_memory,
    check_step,
    warn_of_late_losses,
)
from vq_jax.train.tasks.validation import Validation
from vq_jax.types import Array, Metrics

_log = logging.getLogger("vq_jax")


def networks(config: ExperimentConfig | RestorerConfig, model: Any) -> dict[str, Any]:
    """The networks and optimizers of a configuration, as `init_state` and `init_restorer` take them."""
    steps = config.training.steps
    parts: dict[str, Any] = {"model": model, "optimizer": make_optimizer(config.optimizer, steps)}
    if config.losses.has_discriminator:
        discriminator = config.discriminator
        parts["discriminator_model"] = discriminator.build(compute_dtype(config.training.dtype))
        parts["discriminator_optimizer"] = make_optimizer(discriminator.optimizer, steps)
    return parts


def abstract_state(config: ExperimentConfig, model: VQModel, mesh: Mesh | None = None) -> TrainState:
    """Shapes and shardings of the run's state on its own mesh or another, for restoring it or its step.

    Raises:
      UserError: see `check.abstract_networks`.
    """
    mesh = mesh or sharding.make_mesh(config.training.mesh_data, config.training.mesh_fsdp)
    ema, parts = config.training.ema_decay > 0, networks(config, model)
    state = abstract_networks(
        lambda: init_state(jax.random.key(0), image_shape(config), ema=ema, track_use=True, **parts)
    )
    return sharding.with_sharding(state, mesh)


def abstract_inputs(config: ExperimentConfig, mesh: Mesh) -> tuple[Any, ...]:
    """Shapes and shardings of a step's inputs besides the state, with all losses on."""
    losses = config.losses
    perceptual = lpips_shapes(losses.perceptual) if losses.perceptual_weight > 0 else None
    pictures = abstract_pictures(config.data.batch_size, image_shape(config), mesh)
    return (
        dict.fromkeys(("image", "target") if config.data.degradation.changes else ("image",), pictures),
        sharding.abstract_key(mesh),
        sharding.abstract(perceptual, sharding.replicated(mesh)),
    )


def jit_step(
    config: ExperimentConfig, mesh: Mesh, losses: Losses, phase: PhaseKind, parts: dict[str, Any]
) -> Any:
    """The jitted step of a phase, with the losses of that step and `networks`."""
    training = config.training
    return jit.jit_train_step(
        mesh,
        losses=losses,
        phase=phase,
        trained=training.trained_groups,
        ema_decay=training.ema_decay,
        accumulate=training.accumulate,
        **parts,
    )


_BEGINNINGS = {
    "perceptual_start": "the perceptual loss joins",
    "disc_start": "the discriminator begins to learn",
    "adversarial_start": "the adversarial loss joins",
}


class TokenizerTask:
    """See `tasks.Task`."""

    network = "model"
    metric_groups: Mapping[str, str] = ADVERSARIAL_GROUPS
    pictures = "reconstructions"

    def __init__(self, config: ExperimentConfig, workdir: epath.Path) -> None:
        training = config.training
        self.mesh = sharding.make_mesh(training.mesh_data, training.mesh_fsdp)
        sharding.check_batch_size(config.data.batch_size, self.mesh)
        inputs = abstract_inputs(config, self.mesh)
        check_memory(self.mesh, inputs)
        channels = config.model.image_channels
        self.source, test_source = open_splits(config.data, channels)
        self._described = f"{config.data.source}, {describe(self.source, test_source)}"
        data = dataclasses.replace(config.data, class_names=class_names(self.source))
        self.config = config = dataclasses.replace(config, data=data)
        warn_of_late_losses(config)
        self.data, self.data_name = self.source.fingerprint, f"the pictures of {config.data.source}"
        self.model = build_model(config)
        self.networks = networks(config, self.model)
        self._steps: dict[Any, Any] = {}
        self._abstract_state = abstract_state(config, self.model, self.mesh)
        for step in self.stages():
            check_step(self.mesh, self._step_function(self._phase(step), step), self._abstract_state, *inputs)
        self._initial = initial_tokenizer(
            config, workdir, self.model, lambda: self._abstract_state.discriminator
        )
        self.perceptual = None
        if config.losses.perceptual_weight > 0:
            weights = nn.load_lpips(config.losses.perceptual, config.losses.perceptual_file)
            self.perceptual = sharding.replicate(weights, self.mesh)
        self.rng = sharding.make_key(training.seed, self.mesh)
        self.validation = Validation(test_source, config, self.model, self.mesh)

    @classmethod
    def lower(
        cls, config: ExperimentConfig, mesh: Mesh, *, tokenizer: str | None = None, classes: int | None = None
    ) -> Any:
        """Lowers the step of the last phase, with all losses on; see `Task.lower`."""
        model = build_model(config)
        step = jit_step(config, mesh, config.losses, config.phases[-1].kind, networks(config, model))
        return step.lower(abstract_state(config, model, mesh), *abstract_inputs(config, mesh))

    def prepare(self, workdir: epath.Path) -> None:
        """Does nothing: the steps need only what the constructor made."""

    def abstract_state(self) -> TrainState:
        """Shapes and shardings of the state."""
        return self._abstract_state

    def init_state(self) -> TrainState:
        """The state before the first step."""
        state = sharding.init_state_sharded(
            jax.random.key(self.config.training.seed),
            image_shape(self.config),
            self.mesh,
            ema=self.config.training.ema_decay > 0,
            track_use=True,
            **self.networks,
        )
        if self._initial is None:
            return state
        generator = self._initial.network(state.generator, self.networks["optimizer"], self.mesh)
        return TrainState(generator, self._initial.judge(state.discriminator, self.mesh))

    def batches(self, position: int) -> DeviceBatches:
        """Training batches from a position on."""
        batches = train_batches(
            self.source,
            self.config.data,
            seed=self.config.training.seed,
            start_batch=position,
            process_index=jax.process_index(),
            process_count=jax.process_count(),
            copy=False,
        )
        return DeviceBatches(batches, self.mesh)

    def take_step(self, state: TrainState, batch: dict[str, Array], step: int) -> tuple[TrainState, Metrics]:
        """One update; fits the codebook before it where a phase that asks for it begins."""
        phase = self._phase(step)
        for name, start in self.config.losses.used_starts().items():
            if 0 < step == start:
                _log.info("Step %d: %s.", step + 1, _BEGINNINGS[name])
        if step in self.config.phase_starts() and phase.kmeans_batches:
            state = self._fit_codebook(state, step, phase.kmeans_batches)
        return self._step_function(phase, step)(state, batch, self.rng, self.perceptual)

    def stages(self) -> list[int]:
        """The steps with which a phase or a loss that needs another program begins."""
        starts = {*self.config.phase_starts(), self.config.losses.starts()["perceptual_start"]}
        return sorted(start for start in starts if start < self.config.training.steps)

    def words(self, step: int) -> dict[str, str]:
        """The phase of the last step."""
        return {"phase": self._phase(step - 1).kind}

    def evaluate(self, state: TrainState, step: int) -> dict[str, float]:
        """Figures on the test set."""
        return self.validation.figures(state.generator, self._quantize(step))[0]

    def draw(self, state: TrainState, step: int) -> np.ndarray:
        """Test pictures above their reconstructions; where the model is given others, those at the top."""
        shown = self.validation
        decoded = shown.reconstructions(state.generator, self._quantize(step))
        if shown.given is None:
            return grids.comparison_grid(shown.pictures, decoded)
        return grids.comparison_grid(shown.given, decoded, shown.pictures)

    def report(
        self, workdir: epath.Path, state: TrainState, step: int, command: str | None
    ) -> dict[str, float]:
        """Writes report.md."""
        quantize = self._quantize(step)
        _, counts = self.validation.figures(state.generator, quantize, sets=False)
        shown, about = self.validation, report.About(self._described, command)
        decoded = shown.reconstructions(state.generator, quantize)
        return report.write_report(
            workdir, self.config, step, about, shown.pictures, decoded, counts, shown.given
        )

    def _phase(self, step: int) -> Phase:
        """The phase that the update after `step` others belongs to."""
        return self.config.phases[
            max(i for i, start in enumerate(self.config.phase_starts()) if start <= step)
        ]

    def _quantize(self, step: int) -> bool:
        return self._phase(step - 1).kind != "autoencoder"

    def _fit_codebook(self, state: TrainState, step: int, num_batches: int) -> TrainState:
        """Sets the codebook by k-means on the encoder's outputs for the batches that come next."""
        encode = jax.jit(
            lambda params, codebook, image: self.model.apply(
                {"params": params, "codebook": codebook},
                ops.normalize_pictures(image),
                method="encode_latents",
            )
        )
        latents, generator = [], state.generator
        with self.batches(step) as batches:
            for _ in range(num_batches):
                z = encode(generator.params, generator.codebook, next(batches)["image"])
                latents.append(jax.tree.map(lambda grid: grid.reshape(-1, grid.shape[-1]), z))
        params, codebook = self.model.quantizer.fit(
            jax.random.fold_in(self.rng, step),
            generator.params.get("quantizer", {}),
            generator.codebook.get("quantizer", {}),
            jax.tree.map(lambda *batches: jnp.stack(batches), *latents),
        )
        new = generator
        if codebook:
            new = dataclasses.replace(new, codebook={**new.codebook, "quantizer": codebook})
        if params:
            new = dataclasses.replace(new, params={**new.params, "quantizer": params})
        return dataclasses.replace(state, generator=sharding.shard_state(new, self.mesh))

    def _step_function(self, phase: Phase, step: int) -> Any:
        losses = self.config.losses.at(step)
        if (phase.kind, losses) not in self._steps:
            self._steps[phase.kind, losses] = jit_step(
                self.config, self.mesh, losses, phase.kind, self.networks
            )
        return self._steps[phase.kind, losses]
