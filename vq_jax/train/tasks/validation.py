"""The test set of a run: figures on it, and pictures beside their reconstructions."""

import functools
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from vq_jax import ops
from vq_jax.configs.runs import ExperimentConfig
from vq_jax.data import Source, test_batches, test_pictures
from vq_jax.evaluate import evaluate, evaluation_step
from vq_jax.nn import VQModel
from vq_jax.train.sharding import replicated, shard_global_batch, unshard
from vq_jax.train.state import GeneratorState
from vq_jax.types import Array, Params

_LONGEST_SIDE = 640  # px of a shown picture


class Validation:
    """Evaluates a model on its test set.

    Figures come from pictures, or crops of them, of the training size; shown are whole pictures where
    the model takes any size.
    """

    def __init__(self, source: Source, config: ExperimentConfig, model: VQModel, mesh: Mesh) -> None:
        self._mesh = mesh
        batch_size = config.data.batch_size
        self._batches = list(
            test_batches(source, config.data, batch_size=batch_size, limit=config.data.test_limit)
        )
        step = functools.partial(evaluation_step, model=model, reconstruction=config.losses.reconstruction)
        # Every process reads the results: each device has all of them.
        jit = functools.partial(jax.jit, static_argnames="quantize", out_shardings=replicated(mesh))
        self._step = jit(step)
        self._reconstruct = jit(functools.partial(_reconstruct, model=model))
        if model.image_shape is not None:
            # Of the size that the model takes, spread over the set, which may be sorted by class.
            crops = np.concatenate([batch["image"][batch["valid"]] for batch in self._batches])
            self.pictures = list(crops[:: max(1, len(crops) // 16)][:16])
        else:
            self.pictures = [_shrink(picture) for picture in test_pictures(source, 16)]
            if max(max(picture.shape[:2]) for picture in self.pictures) > 64:
                self.pictures = self.pictures[:4]
        stride = max(model.strides(2), default=1)
        self._canvas = tuple(
            -(-max(picture.shape[axis] for picture in self.pictures) // stride) * stride for axis in (0, 1)
        )

    def figures(self, state: GeneratorState, quantize: bool) -> tuple[dict[str, float], np.ndarray]:
        """Figures and code counts on the test set, see `evaluate.evaluate`."""
        params, codebook = unshard((state.eval_params, state.codebook), self._mesh)
        return evaluate(
            lambda batch: self._step(
                params, codebook, shard_global_batch(batch, self._mesh), quantize=quantize
            ),
            self._batches,
        )

    def reconstructions(self, state: GeneratorState, quantize: bool) -> list[np.ndarray]:
        """Reconstructions of `pictures`, uint8."""
        # One canvas for all sizes: one compilation.
        canvas = np.stack(
            [
                np.pad(
                    picture,
                    [
                        (0, self._canvas[0] - picture.shape[0]),
                        (0, self._canvas[1] - picture.shape[1]),
                        (0, 0),
                    ],
                    mode="edge",
                )
                for picture in self.pictures
            ]
        )
        params, codebook = unshard((state.eval_params, state.codebook), self._mesh)
        decoded = np.asarray(self._reconstruct(params, codebook, canvas, quantize=quantize))
        return [
            whole[: picture.shape[0], : picture.shape[1]]
            for whole, picture in zip(decoded, self.pictures, strict=True)
        ]


def _reconstruct(
    params: Params, codebook: Params, pictures: Array, *, model: VQModel, quantize: bool
) -> Array:
    images = ops.normalize_pictures(pictures)
    output: Any = model.apply({"params": params, "codebook": codebook}, images, quantize=quantize)
    return ops.to_uint8(output.reconstruction)


def _shrink(picture: np.ndarray) -> np.ndarray:
    """Cuts the middle out of a picture too large to look at."""
    top, left = (max(0, (size - _LONGEST_SIDE) // 2) for size in picture.shape[:2])
    return picture[top : top + _LONGEST_SIDE, left : left + _LONGEST_SIDE]
