"""The evaluation step and what its sums say of a whole test set."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from vq_jax import ops
from vq_jax.evaluate.distances import mean_squared_error, psnr_from_mse
from vq_jax.nn import VQModel
from vq_jax.types import Array, Float, Params


@struct.dataclass
class EvaluationSums:
    """Sums over pictures, float32; those of several batches add up."""

    pictures: Float[Array, ""]
    loss: Float[Array, ""]
    squared_error: Float[Array, ""]  # of [0, 1] pictures, mean over a picture's pixels
    psnr: Float[Array, ""]
    value: Float[Array, ""]  # of [0, 1] pictures
    squared_value: Float[Array, ""]
    counts: Float[Array, " K"]  # uses of each code; empty where the quantizer was passed by


def evaluation_step(
    params: Params,
    codebook: Params,
    batch: Mapping[str, Array],
    *,
    model: VQModel,
    reconstruction: str,
    quantize: bool = True,
) -> EvaluationSums:
    """Reconstructs a batch in evaluation mode; changes nothing.

    Args:
      params: parameters of the model.
      codebook: its codebook collection.
      batch: `image` uint8 or float in [-1, 1]; `valid` bool [B] where some pictures only fill up.
      model: the network.
      reconstruction: kind of the reconstruction loss, see `ops.reconstruction_loss`.
      quantize: False passes the quantizer by.
    """
    images = ops.normalize_pictures(batch["image"])
    valid = batch["valid"].astype(jnp.float32)
    output: Any = model.apply({"params": params, "codebook": codebook}, images, quantize=quantize)

    def one_loss(outputs: Array, picture: Array) -> Array:
        return ops.reconstruction_loss(outputs, picture, reconstruction)

    error = mean_squared_error(output.reconstruction, images)
    unit = 0.5 * (images.astype(jnp.float32) + 1.0)
    axes = tuple(range(1, images.ndim))
    counts = jnp.zeros((0,))
    if output.indices is not None:
        indices = output.indices.reshape(images.shape[0], -1)
        weight = jnp.broadcast_to(valid[:, None], indices.shape)
        counts = jnp.zeros((model.quantizer.codebook_size,)).at[indices].add(weight)
    return EvaluationSums(
        pictures=jnp.sum(valid),
        loss=jnp.sum(jax.vmap(one_loss)(output.outputs, images) * valid),
        squared_error=jnp.sum(0.25 * error * valid),
        psnr=jnp.sum(psnr_from_mse(error) * valid),
        value=jnp.sum(jnp.mean(unit, axis=axes) * valid),
        squared_value=jnp.sum(jnp.mean(jnp.square(unit), axis=axes) * valid),
        counts=counts,
    )


def evaluate(
    step: Callable[[Any], EvaluationSums], batches: Iterable[Any]
) -> tuple[dict[str, float], np.ndarray]:
    """Runs an evaluation step over a test set.

    Args:
      step: from a batch to its sums, jitted.
      batches: the test set.

    Returns:
      Figures by name: `loss` reconstruction loss, `psnr` decibel, mean over pictures, `nmse` mean
      squared error over the variance of the pixels, and, of all codes that the set was given together,
      `perplexity`, `usage` (share) and `used_codes` (number); and how often each code was used, float
      [K], empty where the quantizer was passed by.

    Raises:
      ValueError: there is no batch.
    """
    total: EvaluationSums | None = None
    for batch in batches:
        sums = step(batch)
        total = sums if total is None else jax.tree.map(jnp.add, total, sums)
    if total is None:
        raise ValueError("expected at least one batch to evaluate on, got none")
    sums = jax.device_get(total)
    pictures = float(sums.pictures)
    mean = float(sums.value) / pictures
    variance = float(sums.squared_value) / pictures - mean**2
    figures = {
        "loss": float(sums.loss) / pictures,
        "psnr": float(sums.psnr) / pictures,
        "nmse": float(sums.squared_error) / pictures / max(variance, 1e-12),
    }
    counts = np.asarray(sums.counts)
    if counts.size:
        figures["perplexity"] = float(ops.perplexity(jnp.asarray(counts)))
        figures["usage"] = float(np.mean(counts > 0))
        figures["used_codes"] = float(np.sum(counts > 0))
    return figures, counts
