"""LPIPS: of two pictures, and of the reconstructions of a held-out set."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vq_jax import nn, ops
from vq_jax.nn.features.lpips import Backbone
from vq_jax.types import Array, Params

LPIPS_SMALLEST = 31  # px; below it, AlexNet has nothing left


def lpips(a: np.ndarray, b: np.ndarray) -> float:
    """LPIPS with AlexNet, version 0.1 (Zhang et al. 2018) of two uint8 pictures [H, W, C]; see `nn.LPIPS`.

    Raises:
      UserError: its weights are not installed; the message says how to get them.
      ValueError: a side is shorter than LPIPS_SMALLEST.
    """
    distance = _lpips()(ops.normalize_pictures(a[None]), ops.normalize_pictures(b[None]))
    return float(distance[0])


class Perceptual:
    """LPIPS of reconstructions, see `evaluators.Evaluator`.

    `lpips` with AlexNet, `lpips_vgg` with VGG16, whose scale is another: mean over pictures, or frames.

    Args:
      backbone: `alex`, which most papers measure with, or `vgg`.

    Raises:
      UserError: its weights are not installed; the message says how to get them.
    """

    def __init__(self, backbone: Backbone = "alex") -> None:
        self._backbone = backbone
        self._variables = _weights(backbone)

    def init(self) -> dict[str, Array]:
        """Sums of zero."""
        return {"pictures": jnp.zeros((), jnp.float32), "distance": jnp.zeros((), jnp.float32)}

    def update(self, state: dict[str, Array], batch: Mapping[str, Array], output: Any) -> dict[str, Array]:
        """Adds the reconstructions of a batch, `nn.VQOutput`.

        Raises:
          ValueError: a side of the pictures is shorter than LPIPS_SMALLEST.
        """
        valid = batch["valid"].astype(jnp.float32)
        network = nn.LPIPS(self._backbone)
        distance: Any = network.apply(self._variables, output.reconstruction, batch["target"])
        return {
            "pictures": state["pictures"] + jnp.sum(valid),
            "distance": state["distance"] + jnp.sum(distance * valid),
        }

    def compute(self, state: dict[str, Array]) -> dict[str, float]:
        """The mean over the pictures."""
        name = "lpips" if self._backbone == "alex" else f"lpips_{self._backbone}"
        return {name: float(state["distance"]) / float(state["pictures"])}


@functools.cache
def _weights(backbone: Backbone) -> Params:
    return jax.tree.map(jnp.asarray, nn.load_lpips(backbone))


@functools.cache
def _lpips() -> Callable[[Any, Any], Array]:
    variables = _weights("alex")
    return jax.jit(lambda a, b: nn.LPIPS("alex").apply(variables, a, b))
