"""How well pictures are restored, over a held-out set, beside the degraded pictures themselves."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from vq_jax import ops
from vq_jax.errors import lookup
from vq_jax.evaluate.distances import mean_squared_error, psnr_from_mse
from vq_jax.evaluate.evaluators import Evaluator, sums
from vq_jax.evaluate.perceptual import Perceptual
from vq_jax.evaluate.reconstruction import Reconstruction
from vq_jax.nn import RegressorModel, RestorerModel
from vq_jax.nn.restoration import enlarge
from vq_jax.types import Array, Float, Params


@struct.dataclass
class RestorationSums:
    """Sums over pictures, float32; those of the codes stay zero without codes."""

    pictures: Float[Array, ""]
    input_psnr: Float[Array, ""]
    codes_psnr: Float[Array, ""]
    cross_entropy: Float[Array, ""]
    accuracy: Float[Array, ""]


@dataclasses.dataclass(frozen=True)
class Restoration:
    """Figures of restored pictures, see `evaluators.Evaluator` and `restoration_step`.

    `input_psnr`: of the degraded picture, enlarged by bicubic interpolation where it is smaller;
    `codes_psnr`: of the picture restored at fidelity 0; both decibel, means over pictures.
    `codes/cross_entropy` and `codes/accuracy`: of the predicted codes, in nats and as a share of positions.
    """

    def init(self) -> RestorationSums:
        """Zeros."""
        return RestorationSums(*(jnp.zeros((), jnp.float32) for _ in range(5)))

    def update(self, state: RestorationSums, batch: Mapping[str, Array], output: Any) -> RestorationSums:
        """Adds a batch: `image` degraded, `target` clean, and where there are codes `codes`, `by_codes`."""
        valid, target = batch["valid"].astype(jnp.float32), batch["target"]

        def psnr(pictures: Array) -> Array:
            return jnp.sum(psnr_from_mse(mean_squared_error(pictures, target)) * valid)

        zero = jnp.zeros((), jnp.float32)
        by_codes, entropy, accuracy = zero, zero, zero
        if output.logits is not None:
            codes = batch["codes"].reshape(output.logits.shape[:-1])
            by_codes = psnr(batch["by_codes"])
            entropy = jnp.sum(jax.vmap(ops.code_cross_entropy)(output.logits, codes) * valid)
            accuracy = jnp.sum(jax.vmap(ops.code_accuracy)(output.logits, codes) * valid)
        scale = target.shape[1] // batch["image"].shape[1]
        added = RestorationSums(
            jnp.sum(valid), psnr(enlarge(batch["image"], scale)), by_codes, entropy, accuracy
        )
        total: RestorationSums = jax.tree.map(jnp.add, state, added)
        return total

    def compute(self, state: RestorationSums) -> dict[str, float]:
        """Means over the pictures."""
        pictures = float(state.pictures)
        figures = {"input_psnr": float(state.input_psnr) / pictures}
        if float(state.cross_entropy) > 0:
            figures |= {
                "codes_psnr": float(state.codes_psnr) / pictures,
                "codes/cross_entropy": float(state.cross_entropy) / pictures,
                "codes/accuracy": float(state.accuracy) / pictures,
            }
        return figures


RESTORATION_EVALUATORS: dict[str, Callable[[str], Evaluator]] = {
    "reconstruction": Reconstruction,
    "restoration": lambda kind: Restoration(),
    "lpips": lambda kind: Perceptual(),
}
"""Evaluators of a restorer by name; they take the kind of its reconstruction loss."""


def restoration_evaluators(names: Sequence[str], reconstruction: str) -> dict[str, Evaluator]:
    """Makes evaluators of a restorer.

    Args:
      names: of `RESTORATION_EVALUATORS`; () for those of the training loop, reconstruction and restoration.
      reconstruction: kind of its reconstruction loss, see `ops.reconstruction_loss`.

    Raises:
      ValueError: a name is not known; the message has the nearest ones.
    """
    return {
        name: lookup(RESTORATION_EVALUATORS, name, "metric")(reconstruction)
        for name in names or ("reconstruction", "restoration")
    }


def restoration_step(
    params: Params,
    tokenizer_variables: Params,
    batch: Mapping[str, Array],
    *,
    model: RestorerModel | RegressorModel,
    evaluators: Mapping[str, Evaluator],
) -> dict[str, Any]:
    """Restores a batch at fidelity 1, and at 0 where there are codes, and sums it up; changes nothing.

    Args:
      params: of the restorer.
      tokenizer_variables: of its tokenizer.
      batch: `image`, degraded, and `target`, clean: uint8 or float in [-1, 1]; `valid` bool [B].
      model: the network.
      evaluators: by name; `Restoration`, and those of reconstructions.

    Returns:
      The evaluators' states by name, of this batch alone.
    """
    images, target = (ops.normalize_pictures(batch[name]) for name in ("image", "target"))
    variables = model.with_tokenizer(params, tokenizer_variables)
    seen: dict[str, Array] = {**batch, "image": images, "target": target}
    if isinstance(model, RestorerModel):
        found: Any = model.apply(variables, target, method="clean")
        by_codes: Any = model.apply(variables, images, fidelity=0.0)
        seen |= {"codes": found[0], "by_codes": by_codes.reconstruction}
        output: Any = model.apply(variables, images, codes=found[0])
    else:
        output = model.apply(variables, images)
    return sums(evaluators, seen, output)
