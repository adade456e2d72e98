"""The run of a prior: it trains a model of a tokenizer's codes."""

import dataclasses
import functools
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from flax import linen
from jax.sharding import Mesh

from vq_jax import ops
from vq_jax.configs.runs import PriorConfig
from vq_jax.data import Variants, all_test_batches, class_names, open_splits, train_batches
from vq_jax.data.open import describe
from vq_jax.errors import UserError
from vq_jax.evaluate import Likelihood, evaluate
from vq_jax.generate import adapt_options, sample_prior, sampler_of
from vq_jax.nn import Condition
from vq_jax.pretrained.build import abstract_prior, build_prior
from vq_jax.pretrained.code_vectors import code_vectors
from vq_jax.pretrained.filling import context_frames
from vq_jax.pretrained.prior import Prior
from vq_jax.pretrained.record import given_tokenizer, keep_copy, make_record, read_record
from vq_jax.pretrained.tokenizer import Tokenizer
from vq_jax.runs import grids, report
from vq_jax.runs.code_cache import CodeBatches, CodeCache, open_cache
from vq_jax.runs.rundir import has_checkpoint
from vq_jax.train import jit, sharding
from vq_jax.train.initial_weights import InitialWeights, initial_prior
from vq_jax.train.optimizers import make_optimizer
from vq_jax.train.prefetch import Batches, DeviceBatches
from vq_jax.train.steps.prior import PriorState, init_prior, prior_evaluation
from vq_jax.train.tasks.check import abstract_networks, abstract_pictures, check_memory, check_step
from vq_jax.train.tasks.planned_codes import abstract_batch, planned_codes
from vq_jax.train.tasks.seen_frames import seen_frames
from vq_jax.types import Array, Metrics, Params

_CODES = "codes"
_SHOWN_CLASSES, _SHOWN_CLIPS = 10, 4
_log = logging.getLogger("vq_jax")


def prior_state(
    rng: Array, config: PriorConfig, model: linen.Module, vectors: Array | None = None
) -> PriorState:
    """The state before the first step."""
    optimizer, ema = make_optimizer(config.optimizer, config.training.steps), config.training.ema_decay > 0
    return init_prior(rng, prior_model=model, optimizer=optimizer, ema=ema, vectors=vectors)


def jit_step(config: PriorConfig, mesh: Mesh, model: linen.Module) -> Any:
    """The jitted step of a configuration."""
    training = config.training
    return jit.jit_prior_step(
        mesh,
        prior_model=model,
        optimizer=make_optimizer(config.optimizer, training.steps),
        ema_decay=training.ema_decay,
        accumulate=training.accumulate,
    )


class PriorTask:
    """See `tasks.Task`."""

    network = "prior"
    metric_groups: Mapping[str, str] = {"": "optimizer"}
    pictures = "samples"

    def __init__(self, config: PriorConfig, workdir: epath.Path) -> None:
        self.config, training = config, config.training
        self.mesh = sharding.make_mesh(training.mesh_data, training.mesh_fsdp)
        sharding.check_batch_size(config.data.batch_size, self.mesh)
        before = read_record(workdir) if has_checkpoint(workdir) else None  # else another may be chosen
        self.tokenizer = given_tokenizer(workdir, config, before)
        self._pictures = config.data.resolve(self.tokenizer.config.data)
        try:
            self.tokenizer.config.model.check_image_size(self._pictures.image_size)
            self.tokenizer.config.model.check_frames(self._pictures.frames)
        except ValueError as error:
            raise UserError(str(error)) from error
        shape = (*self._pictures.lengths, self.tokenizer.channels)
        pictures = abstract_pictures(config.data.batch_size, shape, self.mesh)
        check_memory(self.mesh, pictures)
        train_source, test_source = open_splits(self._pictures, self.tokenizer.channels)
        self._described = f"the codes of {self._pictures.source}, {describe(train_source, test_source)}"
        found: Any = {"class_names": class_names(train_source) if config.conditional else None}
        self.config = dataclasses.replace(config, data=dataclasses.replace(config.data, **found))
        self.source = Variants(train_source, self._pictures, config.codes.variants)
        classes = train_source.num_classes if config.conditional else None
        self.record = make_record(
            workdir,
            config.tokenizer,
            self.tokenizer,
            classes,
            self._pictures,
            before=before,
        )
        self.data = f"{self.record.fingerprint}-{self.source.fingerprint}"
        self.data_name = f"the codes of {self._pictures.source}"
        self._make_networks()
        self._seen = seen_frames(config, self.model, self.tokenizer, self.mesh)
        self._check_step()
        self._check_sampling()
        self._initial = initial_prior(config, workdir, self.model, self.tokenizer)
        self.rng = sharding.make_key(training.seed, self.mesh)
        self._encode = _encoder(self.tokenizer, self.mesh)
        self._held_out = all_test_batches(test_source, self._pictures, batch_size=self._pictures.batch_size)
        self._clips: list[np.ndarray] = []  # held-out ones to show, of a prior of clips
        self._cache: CodeCache | None = None
        self._directory = _cache_directory(config, workdir)

    @classmethod
    def lower(
        cls, config: PriorConfig, mesh: Mesh, *, tokenizer: str | None = None, classes: int | None = None
    ) -> Any:
        """Lowers the step, see `Task.lower`."""
        codes = planned_codes(config, tokenizer, classes)
        model: Any = build_prior(config, codes.specs, codes.num_classes, codes.config)
        state = abstract_networks(lambda: prior_state(jax.random.key(0), config, model))
        return jit_step(config, mesh, model).lower(
            sharding.with_sharding(state, mesh),
            codes.abstract_batch(config.data.batch_size, mesh, getattr(model, "view_features", None)),
            sharding.abstract_key(mesh),
        )

    def _make_networks(self) -> None:
        config = self.config
        self.model: Any = self._build()
        self._step: Any = jit_step(config, self.mesh, self.model)
        self._frozen: tuple[Any, ...] = ()  # further inputs of the step
        # Every process reads the results: each device has all of them.
        self._evaluate = jax.jit(
            functools.partial(prior_evaluation, prior_model=self.model),
            out_shardings=sharding.replicated(self.mesh),
        )

    def _check_step(self) -> None:
        """Raises UserError if a step cannot be taken."""
        record = self.record
        size, views = self._pictures.batch_size, getattr(self.model, "view_features", None)
        batch = abstract_batch(record.specs, record.num_classes, size, self.mesh, views)
        state = abstract_networks(lambda: self._init(jax.random.key(0)))
        self._abstract_state = sharding.with_sharding(state, self.mesh)
        frozen = jax.tree.map(jax.typeof, self._frozen)
        check_step(
            self.mesh,
            self._step,
            self._abstract_state,
            batch,
            sharding.abstract_key(self.mesh),
            *sharding.abstract(frozen, sharding.replicated(self.mesh)),
        )

    def _check_sampling(self) -> None:
        """Checks, before any step is taken, that pictures can be drawn with the run's options; says what is
        adapted."""
        model, options = self.model, adapt_options(self.config.sampling, self.model)
        if getattr(self.config.sampling, "guided", False) and not getattr(options, "guided", False):
            _log.info(
                "The codes of %s have no classes: pictures are drawn with sampling.guidance 1.",
                self._pictures.source,
            )
        classes, num = self._shown_classes, self._num_shown
        condition = Condition(jnp.asarray(np.resize(classes, num)) if classes else None)
        more: dict[str, Any] = {}
        if sampler_of(model).needs_tokenizer:
            more = {
                "tokenizer_model": self.tokenizer.model,
                "tokenizer_variables": self.tokenizer.variables,
            }

        def draw(variables: Params) -> Any:
            rng = jax.random.key(0)
            return sample_prior(model, variables, rng, condition, num=num, options=options, **more)

        try:
            jax.eval_shape(draw, abstract_prior(model))
        except ValueError as error:
            raise UserError(f"no pictures can be drawn with the options sampling: {error}") from error

    def _build(self) -> linen.Module:
        return build_prior(self.config, self.record.specs, self.record.num_classes, self.tokenizer.config)

    def _init(self, rng: Array) -> Any:
        vectors = code_vectors(self.tokenizer) if hasattr(self.model, "with_vectors") else None
        return prior_state(rng, self.config, self.model, vectors)

    def _eval_params(self, state: Any) -> Params:
        params: Params = state.eval_params
        return params

    def _shown_params(self, state: Any) -> Params:
        """The parameters to sample with; each of several processes samples by itself."""
        params = sharding.unshard(self._eval_params(state), self.mesh)
        if jax.process_count() > 1:
            params = jax.tree.map(lambda leaf: jnp.asarray(jax.device_get(leaf)), params)
        return params

    def prepare(self, workdir: epath.Path) -> None:
        """Records and copies the tokenizer, makes or opens the cache, and encodes the held-out pictures."""
        if jax.process_index() == 0:
            self.record.write(workdir)
            keep_copy(workdir, self.tokenizer)
        # Each of several processes encodes its own share, on its own devices.
        mesh = self.mesh if jax.process_count() == 1 else sharding.local_mesh()
        encoder = self._encode if mesh is self.mesh else _encoder(self.tokenizer, mesh)

        def encode(images: np.ndarray) -> Any:
            given = sharding.shard_global_batch({"image": images}, mesh)["image"]
            return jax.tree.map(np.asarray, encoder(given))

        if self._pictures.frames is not None and not self._clips:
            self._clips = [*self._held_out[0]["image"][:_SHOWN_CLIPS]]
        for batch in self._held_out:
            if "codes" not in batch:
                batch["codes"] = encode(batch.pop("image"))
        if self._directory is not None:
            self._cache = open_cache(
                self._directory,
                self.source,
                encode,
                tokenizer=self.record.fingerprint,
                specs=self.record.specs,
                batch_size=self._pictures.batch_size,
            )

    def abstract_state(self) -> Any:
        """Shapes and shardings of the state."""
        return self._abstract_state

    def init_state(self) -> Any:
        """The state before the first step."""
        rng = jax.random.key(self.config.training.seed)
        state = sharding.init_on_mesh(self._init, rng, self.mesh)
        return state if self._initial is None else self._begin(state, self._initial)

    def _begin(self, state: Any, initial: InitialWeights) -> Any:
        optimizer = make_optimizer(self.config.optimizer, self.config.training.steps)
        return initial.network(state, optimizer, self.mesh)

    def batches(self, position: int) -> DeviceBatches:
        """Batches of codes, or of the pictures to encode, from a position on."""
        plain = self._pictures.plain()
        seed = self.config.training.seed
        share = {"process_index": jax.process_index(), "process_count": jax.process_count()}
        batches: Batches
        if self._cache is not None:
            batches = CodeBatches(self._cache, plain, seed=seed, position=position, **share)
        else:
            batches = train_batches(self.source, plain, seed=seed, start_batch=position, copy=False, **share)
        return DeviceBatches(batches, self.mesh)

    def take_step(self, state: Any, batch: dict[str, Array], step: int) -> tuple[Any, Metrics]:
        """One update."""
        labels = {"label": batch["label"]} if self.record.num_classes is not None else {}
        if self._seen is not None:
            given = {"image": batch["image"], **labels}
            inputs = labels | self._seen.inputs(state.params, given, self.rng, step)
        else:
            codes = batch["codes"] if "codes" in batch else self._encode(batch["image"])
            inputs = labels | {"codes": codes}
        new: tuple[Any, Metrics] = self._step(state, inputs, self.rng, *self._frozen)
        return new

    def stages(self) -> list[int]:
        """The first step only: a prior has no phases."""
        return [0]

    def words(self, step: int) -> dict[str, str]:
        """No words."""
        return {}

    def evaluate(self, state: Any, step: int) -> dict[str, float]:
        """Means over the held-out pictures, with the same masks every time."""
        params = sharding.unshard(self._eval_params(state), self.mesh)
        conditional = self.record.num_classes is not None

        def sums(numbered: tuple[int, Any]) -> dict[str, Any]:
            number, batch = numbered
            arrays: Any = (batch["codes"], batch["label"] if conditional else None, batch["valid"])
            codes, labels, valid = sharding.replicate(arrays, self.mesh)
            rng = jax.random.fold_in(sharding.make_key(0, self.mesh), number)
            given = Condition(labels) if self._seen is None else self._seen.condition(codes, labels)
            state = jax.device_get(self._evaluate(params, codes, given, valid, rng))
            return {"codes": jax.tree.map(float, state)}  # added up in float64

        return evaluate(sums, enumerate(self._held_out), {"codes": Likelihood()}).figures

    def draw(self, state: Any, step: int) -> np.ndarray:
        """New pictures, one row for each of a few classes; or strips of clips, see `_shown_clips`."""
        if self._pictures.frames is not None:
            return grids.comparison_grid(*self._shown_clips(state, step)[0])
        return grids.picture_grid(self._samples(state, step), self._columns)

    def report(self, workdir: epath.Path, state: Any, step: int, command: str | None) -> dict[str, float]:
        """Writes report.md."""
        about = report.About(self._described, command)
        if self._pictures.frames is not None:
            rows, words = self._shown_clips(state, step)
            strips = grids.comparison_grid(*rows)
            return report.write_prior_report(workdir, self.config, step, about, strips, words, rows)
        classes = self._shown_classes
        words = f"New pictures, a row each of the classes {', '.join(map(str, classes))}:" if classes else ""
        grid = self.draw(state, step)
        return report.write_prior_report(workdir, self.config, step, about, grid, words or "New pictures:")

    @property
    def _columns(self) -> int:
        return 8 if self._pictures.picture_size[1] <= 64 else 4

    @property
    def _shown_classes(self) -> list[int]:
        classes = self.record.num_classes
        if classes is None:
            return []
        shown = min(classes, _SHOWN_CLASSES)
        return [row * classes // shown for row in range(shown)]

    @property
    def _num_shown(self) -> int:
        return (len(self._shown_classes) or self._columns) * self._columns

    def _prior(self, state: Any, step: int) -> Prior:
        variables = {"params": self._shown_params(state)}
        size, frames = self._pictures.image_size, self._pictures.frames
        return Prior(self.model, variables, self.tokenizer, self.config, step, size, frames)

    def _shown_clips(self, state: Any, step: int) -> tuple[list[list[np.ndarray]], str]:
        """New clips and, of a prior that continues clips, held-out ones and their first frames continued.

        Returns:
          Rows of clips, and words that say what they are.
        """
        prior, count = self._prior(state, step), len(self._clips)
        classes = self._shown_classes
        labels = np.resize(classes, count) if classes else None
        rows = [[*prior.sample(count, labels=labels)]]
        tasks = getattr(self.config.prior, "tasks", ("next",))  # other priors go on in order
        if not {"prediction", "next"} & set(tasks):
            return rows, "New clips:"
        clips = np.stack(self._clips)
        given = context_frames(prior, clips.shape[1])
        continued = prior.predict(clips[:, :given], clips.shape[1] - given)
        rows += [self._clips, [*np.concatenate([clips[:, :given], continued], axis=1)]]
        what = f"its first {given} frames, continued"
        return rows, f"From top to bottom: a new clip, a held-out one, and {what}:"

    def _samples(self, state: Any, step: int) -> np.ndarray:
        prior = self._prior(state, step)
        classes, num = self._shown_classes, self._num_shown
        labels = np.repeat(classes, self._columns) if classes else None
        spread = jax.process_count() == 1 and num % self.mesh.size == 0
        return prior.sample(
            num,
            labels=labels,
            batch_size=num,
            sharding=sharding.batch_sharding(self.mesh) if spread else None,
        )


def _cache_directory(config: PriorConfig, workdir: epath.Path) -> Path | None:
    if config.codes.mode == "fly":
        return None
    place = config.codes.directory or str(workdir / _CODES)
    if "://" in place:
        raise UserError(
            f"the code cache is memory-mapped and cannot be kept in {place}: give a local directory "
            "with --codes.directory, or --codes.mode fly"
        )
    return Path(place).expanduser()


def _encoder(tokenizer: Tokenizer, mesh: Mesh) -> Any:
    """A function of pictures uint8 [B, H, W, C] to their codes, both spread over the mesh."""
    whole, parts = sharding.replicated(mesh), sharding.batch_sharding(mesh)
    variables: Params = sharding.replicate(tokenizer.variables, mesh)
    encode = jax.jit(
        lambda variables, images: tokenizer.model.apply(
            variables, ops.normalize_pictures(images), method="encode"
        ),
        in_shardings=(whole, parts),
        out_shardings=parts,
    )
    return functools.partial(encode, variables)
