"""How far the codes and the reconstructions of pictures move when the pictures are corrupted."""

import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from vq_jax import ops
from vq_jax.evaluate.distances import picture_psnr
from vq_jax.nn import VQModel
from vq_jax.ops.meshes import auto_axes
from vq_jax.types import Array, Params

_NAMES = ("input_psnr", "clean_psnr", "psnr", "codes_changed")


class Robustness:
    """Figures of corrupted pictures, see `evaluators.Evaluator` and `robustness_step`.

    `codes_changed`: share of the codes that are others than those of the clean picture; `clean_psnr` and
    `psnr`: of the reconstruction, against the clean and against the corrupted picture; `input_psnr`: of the
    corrupted picture itself. Decibel; all are means over pictures.
    """

    def init(self) -> dict[str, Array]:
        """Sums of zero."""
        return {name: jnp.zeros((), jnp.float32) for name in ("pictures", *_NAMES)}

    def update(self, state: dict[str, Array], batch: Mapping[str, Any], output: Any) -> dict[str, Array]:
        """Adds a batch.

        Args:
          state: sums so far.
          batch: `image` corrupted and `target` clean, float in [-1, 1]; `codes` of the clean pictures;
            `valid` bool [B].
          output: what the model made of `image`, `nn.VQOutput`.
        """
        valid, image, target = batch["valid"].astype(jnp.float32), batch["image"], batch["target"]
        figures = {
            "input_psnr": picture_psnr(image, target),
            "clean_psnr": picture_psnr(output.reconstruction, target),
            "psnr": picture_psnr(output.reconstruction, image),
            "codes_changed": _share_changed(batch["codes"], output.indices),
        }
        added = {name: jnp.sum(values * valid) for name, values in figures.items()} | {
            "pictures": jnp.sum(valid)
        }
        return {name: state[name] + added[name] for name in state}

    def compute(self, state: dict[str, Any]) -> dict[str, float]:
        """Means over the pictures."""
        return {name: float(state[name]) / float(state["pictures"]) for name in _NAMES}


def _share_changed(codes: Any, others: Any) -> Array:
    """Share of the codes of each picture that differ, float32 [B], over all grids."""
    pairs = list(zip(jax.tree.leaves(codes), jax.tree.leaves(others), strict=True))
    changed = [jnp.sum((a != b).reshape(a.shape[0], -1).astype(jnp.float32), axis=1) for a, b in pairs]
    return sum(changed[1:], changed[0]) / sum(math.prod(a.shape[1:]) for a, _ in pairs)


@auto_axes(lambda *_, **__: PartitionSpec())
def robustness_step(
    params: Params, codebook: Params, batch: Mapping[str, Array], *, model: VQModel, evaluator: Robustness
) -> dict[str, Array]:
    """Reconstructs corrupted pictures in evaluation mode and sums them up; changes nothing.

    Args:
      params: parameters of the model.
      codebook: its codebook collection.
      batch: `image` corrupted and `target` clean, uint8 [B, *S, C]; `valid` bool [B].
      model: the network.
      evaluator: sums up.

    Returns:
      The evaluator's state, of this batch alone.
    """
    image, target = (ops.normalize_pictures(batch[name]) for name in ("image", "target"))
    variables = {"params": params, "codebook": codebook}
    codes: Any = model.apply(variables, target, method="encode")
    output: Any = model.apply(variables, image)
    seen = {**batch, "image": image, "target": target, "codes": codes}
    return evaluator.update(evaluator.init(), seen, output)
