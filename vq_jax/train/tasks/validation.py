"""The held-out set of a run: figures on it, and pictures beside their reconstructions."""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from vq_jax import ops
from vq_jax.configs.runs import ExperimentConfig
from vq_jax.data import Source, all_test_batches, test_pictures
from vq_jax.data.degrade import degrade
from vq_jax.data.source import Batch
from vq_jax.data.splits import evenly_over_classes, evenly_spaced
from vq_jax.evaluate import Evaluator, evaluate, evaluation_step, is_set_metric, reconstruction_step
from vq_jax.nn import VQModel
from vq_jax.train.sharding import replicated, shard_global_batch, unshard
from vq_jax.train.state import GeneratorState
from vq_jax.train.tasks.chosen_metrics import RunSets, make_run_evaluators
from vq_jax.types import Array, Params

_SHOWN = 16  # pictures; a quarter of large ones, and of clips
_LONGEST_SIDE = 640  # px of a shown picture


class Validation:
    """Evaluates a model on its held-out set.

    Figures come from pictures, or crops of pictures, of the training size. Where the model takes any size,
    whole pictures are shown; clips are shown as they are measured.

    Attributes:
      pictures: those shown, uint8 [*S, C] each.
      given: what the model is given of each, degraded; None where the data have no degradation.
    """

    def __init__(self, source: Source, config: ExperimentConfig, model: VQModel, mesh: Mesh) -> None:
        self._mesh, self._model, self._config = mesh, model, config
        batch_size, degradation = config.data.batch_size, config.data.degradation
        degrades = degradation.changes
        self._batches = all_test_batches(source, config.data, batch_size=batch_size)
        self._reconstruct = self._jit(functools.partial(_reconstruct, model=model))
        if config.data.frames is not None:
            self.pictures = _spread(self._batches, _SHOWN // 4, "image")
        elif model.image_shape is not None:
            # Of the size that the model takes.
            self.pictures = _spread(self._batches, _SHOWN, "target" if degrades else "image")
        else:
            self.pictures = [_shrink(picture) for picture in test_pictures(source, _SHOWN)]
            if max(max(picture.shape[:-1]) for picture in self.pictures) > 64:
                self.pictures = [_shrink(picture) for picture in test_pictures(source, _SHOWN // 4)]
        self.given: list[np.ndarray] | None = None
        if degrades and model.image_shape is not None:
            self.given = _spread(self._batches, _SHOWN, "image")
        elif degrades:
            self.given = [
                degrade(picture, degradation, np.random.default_rng(number))
                for number, picture in enumerate(self.pictures)
            ]
        shapes = np.array([picture.shape[:-1] for picture in self.pictures])
        self._canvas = model.padded_lengths(tuple(shapes.max(axis=0).tolist()))
        of_sets = any(map(is_set_metric, config.metrics))
        self._sets = RunSets(config, self._batches) if of_sets or config.inception or config.i3d else None
        if config.metrics:
            _ = self.evaluators  # a mistake in them is told before anything is written

    @functools.cached_property
    def evaluators(self) -> dict[str, Evaluator]:
        """The evaluators of the run by name."""
        return make_run_evaluators(self._config, self._model, self._batches[0])

    @functools.cached_property
    def _step(self) -> Any:
        step: Any = evaluation_step if self._sets is None else reconstruction_step
        return self._jit(functools.partial(step, model=self._model, evaluators=self.evaluators))

    def _jit(self, function: Any) -> Any:
        # Every process reads the results: each device has all of them.
        return jax.jit(function, static_argnames="quantize", out_shardings=replicated(self._mesh))

    def figures(
        self, state: GeneratorState, quantize: bool, sets: bool = True
    ) -> tuple[dict[str, float], dict[str, np.ndarray]]:
        """Evaluates the model on the held-out set.

        Args:
          state: of the network.
          quantize: False bypasses the quantizer.
          sets: compute the metrics of sets, where the run has some.

        Returns:
          Figures by name, and how often each code occurs, see `CodeUsage.counts`.
        """
        params, codebook = unshard((state.eval_params, state.codebook), self._mesh)
        made: Any = self._sets and self._sets.empty()

        def step(batch: Batch) -> dict[str, Any]:
            nonlocal made
            result = self._step(params, codebook, shard_global_batch(batch, self._mesh), quantize=quantize)
            if self._sets is None:
                return result
            states, pictures = result
            made = self._sets.added(made, batch, pictures) if sets else made
            return states

        figures, states = evaluate(step, self._batches, self.evaluators)
        if self._sets is not None and sets:
            figures |= self._sets.figures(made)
        usage: Any = self.evaluators["codes"]
        counts: dict[str, np.ndarray] = usage.counts(states["codes"])
        return figures, counts

    def reconstructions(self, state: GeneratorState, quantize: bool) -> list[np.ndarray]:
        """Reconstructs `pictures`, uint8, from what the model is given of them."""
        # One canvas for all sizes: one compilation.
        canvas = np.stack(
            [
                np.pad(
                    picture,
                    [
                        *(
                            (0, whole - size)
                            for whole, size in zip(self._canvas, picture.shape, strict=False)
                        ),
                        (0, 0),
                    ],
                    mode="edge",
                )
                for picture in (self.pictures if self.given is None else self.given)
            ]
        )
        params, codebook = unshard((state.eval_params, state.codebook), self._mesh)
        decoded = np.asarray(self._reconstruct(params, codebook, canvas, quantize=quantize))
        return [
            whole[tuple(slice(size) for size in picture.shape)]
            for whole, picture in zip(decoded, self.pictures, strict=True)
        ]


def _spread(batches: Sequence[Batch], count: int, key: str) -> list[np.ndarray]:
    """Up to `count` pictures of the batches, spread over the classes if there are any, else over the set."""
    crops = np.concatenate([batch[key][batch["valid"]] for batch in batches])
    if "label" in batches[0]:
        labels = np.concatenate([batch["label"][batch["valid"]] for batch in batches])
        return [crops[index] for index in evenly_over_classes(labels, count)]
    return [crops[index] for index in evenly_spaced(len(crops), count)]


def _reconstruct(
    params: Params, codebook: Params, pictures: Array, *, model: VQModel, quantize: bool
) -> Array:
    images = ops.normalize_pictures(pictures)
    output: Any = model.apply({"params": params, "codebook": codebook}, images, quantize=quantize)
    return ops.to_uint8(output.reconstruction)


def _shrink(picture: np.ndarray) -> np.ndarray:
    """Cuts the middle out of a picture too large to look at."""
    starts = (max(0, (size - _LONGEST_SIDE) // 2) for size in picture.shape[:-1])
    return picture[tuple(slice(start, start + _LONGEST_SIDE) for start in starts)]
