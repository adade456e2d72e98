"""The run of a restorer or a regressor: it learns clean pictures from degraded ones, over a tokenizer."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from etils import epath
from jax.sharding import Mesh

from vq_jax import nn
from vq_jax.configs.data import DataConfig
from vq_jax.configs.degradations import DegradationConfig
from vq_jax.configs.restorers import RestorationLosses
from vq_jax.configs.runs import RestorerConfig
from vq_jax.data import Source, all_test_batches, class_names, open_splits, test_pictures, train_batches
from vq_jax.data.degrade import degrade
from vq_jax.data.open import describe
from vq_jax.errors import UserError
from vq_jax.evaluate import Evaluator, evaluate, restoration_evaluators, restoration_step
from vq_jax.nn.features.lpips import lpips_shapes
from vq_jax.pretrained.build import abstract_variables, build_restorer
from vq_jax.pretrained.record import given_tokenizer, keep_copy, make_record, read_record
from vq_jax.pretrained.restorer import Restorer
from vq_jax.runs import grids, report
from vq_jax.runs.rundir import has_checkpoint
from vq_jax.train import jit, sharding
from vq_jax.train.initial_weights import InitialWeights, initial_restorer
from vq_jax.train.prefetch import DeviceBatches
from vq_jax.train.state import TrainState
from vq_jax.train.steps.restorer import init_restorer
from vq_jax.train.tasks.base import ADVERSARIAL_GROUPS
from vq_jax.train.tasks.check import (
    abstract_networks,
    abstract_pictures,
    check_memory,
    check_step,
    warn_of_late_losses,
)
from vq_jax.train.tasks.planned_codes import planned_codes
from vq_jax.train.tasks.tokenizer import networks
from vq_jax.types import Array, Metrics, Params

_SHOWN, _SHOWN_SIDE = 4, 256  # pictures, and px of their sides at most
_SMALL, _SHOWN_SMALL = 64, 16  # px up to which a picture is small, and how many of such are shown


def jit_step(config: RestorerConfig, mesh: Mesh, losses: RestorationLosses, parts: dict[str, Any]) -> Any:
    """The jitted step of a configuration, with the losses of that step and `networks`."""
    training = config.training
    return jit.jit_restorer_step(
        mesh, losses=losses, ema_decay=training.ema_decay, accumulate=training.accumulate, **parts
    )


def abstract_inputs(
    config: RestorerConfig,
    degradation: DegradationConfig,
    image_shape: tuple[int, ...],
    mesh: Mesh,
    tokenizer: Params,
) -> tuple[Any, ...]:
    """Shapes and shardings of a step's inputs besides the state, with all losses on."""
    *spatial, channels = image_shape
    small = (*(length // degradation.scale for length in spatial), channels)
    size, losses, whole = config.data.batch_size, config.losses, sharding.replicated(mesh)
    perceptual = lpips_shapes(losses.perceptual) if losses.perceptual_weight > 0 else None
    return (
        {
            "image": abstract_pictures(size, small, mesh),
            "target": abstract_pictures(size, image_shape, mesh),
        },
        sharding.abstract_key(mesh),
        sharding.abstract(jax.tree.map(jax.typeof, tokenizer), whole),
        sharding.abstract(perceptual, whole),
    )


class RestorerTask:
    """See `tasks.Task`."""

    network = "restorer"
    metric_groups: Mapping[str, str] = ADVERSARIAL_GROUPS
    pictures = "restorations"

    def __init__(self, config: RestorerConfig, workdir: epath.Path) -> None:
        training = config.training
        self.mesh = sharding.make_mesh(training.mesh_data, training.mesh_fsdp)
        sharding.check_batch_size(config.data.batch_size, self.mesh)
        before = read_record(workdir) if has_checkpoint(workdir) else None
        self.tokenizer = given_tokenizer(workdir, config, before)
        channels = self.tokenizer.channels
        try:
            self._pictures = config.data.resolve(self.tokenizer.config.data)
            self.tokenizer.config.model.check_image_size(self._pictures.image_size)
            self._pictures.check_channels(channels)
        except ValueError as error:
            raise UserError(str(error)) from error
        shape = (*self._pictures.picture_size, channels)
        frozen = self.tokenizer.variables
        inputs = abstract_inputs(config, self._pictures.degradation, shape, self.mesh, frozen)
        check_memory(self.mesh, inputs)
        self.source, test_source = open_splits(self._pictures, channels)
        self._described = f"{self._pictures.source}, {describe(self.source, test_source)}"
        found: Any = {"class_names": class_names(self.source)}
        self.config = config = dataclasses.replace(config, data=dataclasses.replace(config.data, **found))
        warn_of_late_losses(config)
        self.record = make_record(
            workdir, config.tokenizer, self.tokenizer, None, self._pictures, before=before
        )
        self.data = f"{self.record.fingerprint}-{self.source.fingerprint}"
        self.data_name = f"the pictures of {self._pictures.source}, or the tokenizer,"
        self._scale = self._pictures.degradation.scale
        self.model = build_restorer(config, self.tokenizer.config, self.record.specs, self._scale)
        self.networks = networks(config, self.model)
        self._steps: dict[bool, Any] = {}
        state = abstract_networks(lambda: self._init(jax.random.key(0)))
        self._abstract_state = sharding.with_sharding(state, self.mesh)
        for step in self.stages():
            check_step(self.mesh, self._step(step), self._abstract_state, *inputs)
        self._initial = initial_restorer(config, workdir, self._abstract_state.generator.params)
        self._frozen = sharding.replicate(frozen, self.mesh)
        self._perceptual = None
        if config.losses.perceptual_weight > 0:
            weights = nn.load_lpips(config.losses.perceptual, config.losses.perceptual_file)
            self._perceptual = sharding.replicate(weights, self.mesh)
        self.rng = sharding.make_key(training.seed, self.mesh)
        self._held_out = all_test_batches(test_source, self._pictures, batch_size=self._pictures.batch_size)
        self._shown = _shown_pictures(test_source, self._pictures, self._multiple)

    @classmethod
    def lower(
        cls, config: RestorerConfig, mesh: Mesh, *, tokenizer: str | None = None, classes: int | None = None
    ) -> Any:
        """Lowers the step with all losses on, see `Task.lower`."""
        codes = planned_codes(config, tokenizer, classes)
        degradation = config.data.degradation
        model = build_restorer(config, codes.config, codes.specs, degradation.scale)
        parts, ema = networks(config, model), config.training.ema_decay > 0
        state = abstract_networks(
            lambda: init_restorer(jax.random.key(0), codes.image_shape, ema=ema, **parts)
        )
        frozen = abstract_variables(codes.config, codes.model)
        inputs = abstract_inputs(config, degradation, codes.image_shape, mesh, frozen)
        return jit_step(config, mesh, config.losses, parts).lower(
            sharding.with_sharding(state, mesh), *inputs
        )

    @property
    def _multiple(self) -> int:
        """What the lengths of degraded pictures are multiples of."""
        stride: int = self.tokenizer.strides[0]
        return stride // int(np.gcd(stride, self._scale))

    def _init(self, rng: Array) -> TrainState:
        shape = (*self._pictures.picture_size, self.tokenizer.channels)
        return init_restorer(rng, shape, ema=self.config.training.ema_decay > 0, **self.networks)

    def _step(self, step: int) -> Any:
        losses: Any = self.config.losses.at(step)
        key = losses.perceptual_weight > 0
        if key not in self._steps:
            self._steps[key] = jit_step(self.config, self.mesh, losses, self.networks)
        return self._steps[key]

    def prepare(self, workdir: epath.Path) -> None:
        """Records and copies the tokenizer."""
        if jax.process_index() == 0:
            self.record.write(workdir)
            keep_copy(workdir, self.tokenizer)

    def abstract_state(self) -> TrainState:
        """Shapes and shardings of the state."""
        return self._abstract_state

    def init_state(self) -> TrainState:
        """The state before the first step: encoder, and decoder where there is one, are the tokenizer's."""
        rng = jax.random.key(self.config.training.seed)
        state = sharding.init_on_mesh(self._init, rng, self.mesh)
        initial = self._initial
        if initial is None:
            params = dict(sharding.unshard(state.generator.params, self.mesh))
            own = self.tokenizer.variables["params"]
            params |= {name: own[name] for name in ("encoder", "decoder") if name in params}
            initial = InitialWeights({"params": params})
        generator = initial.network(state.generator, self.networks["optimizer"], self.mesh)
        return dataclasses.replace(state, generator=generator)

    def batches(self, position: int) -> DeviceBatches:
        """Training batches from a position on."""
        batches = train_batches(
            self.source,
            self._pictures,
            seed=self.config.training.seed,
            start_batch=position,
            process_index=jax.process_index(),
            process_count=jax.process_count(),
            copy=False,
        )
        return DeviceBatches(batches, self.mesh)

    def take_step(self, state: TrainState, batch: dict[str, Array], step: int) -> tuple[TrainState, Metrics]:
        """One update."""
        given = {name: batch[name] for name in ("image", "target")}
        new: tuple[TrainState, Metrics] = self._step(step)(
            state, given, self.rng, self._frozen, self._perceptual
        )
        return new

    def stages(self) -> list[int]:
        """The first step, and that with which the perceptual loss joins."""
        starts = {0, self.config.losses.starts()["perceptual_start"]}
        return sorted(start for start in starts if start < self.config.training.steps)

    def words(self, step: int) -> dict[str, str]:
        """No words."""
        return {}

    def evaluate(self, state: TrainState, step: int) -> dict[str, float]:
        """Figures on the held-out pictures, see `evaluate.Restoration`; `loss` is the reconstruction's."""
        params = sharding.unshard(state.generator.eval_params, self.mesh)

        def sums(batch: Any) -> Any:
            return self._sums(params, self._frozen, sharding.shard_global_batch(batch, self.mesh))

        return evaluate(sums, self._held_out, self._evaluators).figures

    @functools.cached_property
    def _evaluators(self) -> dict[str, Evaluator]:
        return restoration_evaluators((), self.config.losses.reconstruction)

    @functools.cached_property
    def _sums(self) -> Any:
        return jax.jit(
            functools.partial(restoration_step, model=self.model, evaluators=self._evaluators),
            out_shardings=sharding.replicated(self.mesh),
        )

    def draw(self, state: TrainState, step: int) -> np.ndarray:
        """What the model is given, restored by codes alone and at fidelity 1, and the clean pictures."""
        return grids.comparison_grid(*self._rows(state, step))

    def report(
        self, workdir: epath.Path, state: TrainState, step: int, command: str | None
    ) -> dict[str, float]:
        """Writes report.md."""
        given, *_, restored, clean = self._rows(state, step)
        about = report.About(self._described, command)
        return report.write_report(workdir, self.config, step, about, clean, restored, {}, given)

    def _rows(self, state: TrainState, step: int) -> list[list[np.ndarray]]:
        params = jax.device_get(sharding.unshard(state.generator.eval_params, self.mesh))
        restorer = Restorer(self.model, {"params": params}, self.tokenizer, self.config, step)
        given, clean = self._shown
        rows = [restorer.restore(given, fidelity=weight) for weight in restorer.fidelities]
        return [given, *rows, clean]


def _shown_pictures(
    source: Source, config: DataConfig, multiple: int
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Degraded and clean test pictures to look at, cut to sizes that the model takes."""
    scale = config.degradation.scale
    pictures = test_pictures(source, _SHOWN_SMALL)
    if max(max(picture.shape[:2]) for picture in pictures) > _SMALL:
        pictures = pictures[:: max(1, len(pictures) // _SHOWN)][:_SHOWN]
    clean = [_cut(picture, scale * multiple) for picture in pictures]
    given = [
        degrade(picture, config.degradation, np.random.default_rng(number))
        for number, picture in enumerate(clean)
    ]
    return given, clean


def _cut(picture: np.ndarray, multiple: int) -> np.ndarray:
    """The middle of a picture, with sides that are multiples of a number."""
    sides = [max(multiple, min(side, _SHOWN_SIDE) // multiple * multiple) for side in picture.shape[:2]]
    starts = [max(0, (whole - side) // 2) for whole, side in zip(picture.shape, sides, strict=False)]
    part = picture[tuple(slice(start, start + side) for start, side in zip(starts, sides, strict=True))]
    missing = [(0, side - length) for side, length in zip(sides, part.shape, strict=False)]
    return np.pad(part, [*missing, (0, 0)], mode="edge")
