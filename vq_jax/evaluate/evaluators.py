"""Evaluators: figures summed up over a held-out set; their registry, and the evaluation loop.

The training loop and `vq-jax evaluate` share them. A new metric is a class with `init`, `update` and
`compute` in a file of its own, and a name in `EVALUATORS`.
"""

import dataclasses
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import jax
from jax.sharding import PartitionSpec

from vq_jax import ops
from vq_jax.errors import nearest_names
from vq_jax.evaluate.code_usage import CodeUsage
from vq_jax.evaluate.flicker import Flicker
from vq_jax.evaluate.perceptual import Perceptual
from vq_jax.evaluate.rate import Rate
from vq_jax.evaluate.reconstruction import Reconstruction
from vq_jax.evaluate.structural_similarity import StructuralSimilarity
from vq_jax.nn import VQModel
from vq_jax.ops.meshes import auto_axes
from vq_jax.types import Array, CodeSpecs, Float, Params, UInt8


class Evaluator(Protocol):
    """A metric, or a family of metrics that share a state.

    A state is a pytree of sums over pictures: the states of several batches, or of several processes, are
    added leaf by leaf.
    """

    def init(self) -> Any:
        """The state before the first picture."""

    def update(self, state: Any, batch: Mapping[str, Array], output: Any) -> Any:
        """Adds a batch to a state; pure, jitted together with the pass of the model.

        Args:
          state: sums so far.
          batch: `valid` bool [B], false for pictures that only fill up the batch, and what the model is
            evaluated on; for a tokenizer, `image`, which it was given, and `target`, which its
            reconstruction is compared with, float [B, *S, C] in [-1, 1].
          output: what the model made of it; for a tokenizer, `nn.VQOutput`.
        """

    def compute(self, state: Any) -> dict[str, float]:
        """Figures by name from the sums over a whole set; runs on the host."""


@dataclasses.dataclass(frozen=True)
class Setup:
    """What the evaluators of a tokenizer depend on.

    Attributes:
      specs: its codes, a pytree of CodeSpec; the sizes of the grids do not matter.
      reconstruction: kind of its reconstruction loss, see `ops.reconstruction_loss`.
    """

    specs: CodeSpecs
    reconstruction: str


EVALUATORS: dict[str, Callable[[Setup], Evaluator]] = {
    "reconstruction": lambda setup: Reconstruction(setup.reconstruction),
    "codes": lambda setup: CodeUsage(setup.specs),
    "rate": lambda setup: Rate(setup.specs),
    "ssim": lambda setup: StructuralSimilarity(),
    "lpips": lambda setup: Perceptual(),
    "lpips-vgg": lambda setup: Perceptual("vgg"),
    "flicker": lambda setup: Flicker(),
}
"""Evaluators of a tokenizer by name."""

DEFAULT_EVALUATORS = ("reconstruction", "codes")
"""Those of the training loop."""

OF_PAIRS = ("reconstruction", "ssim", "lpips", "lpips-vgg", "flicker")
"""Those that need no codes: any two sets of pictures, one for one, have them."""


class Evaluation(NamedTuple):
    """Figures by name, and the sums that each evaluator computed its own from, on the host."""

    figures: dict[str, float]
    states: dict[str, Any]


def make_evaluators(names: Sequence[str], setup: Setup) -> dict[str, Evaluator]:
    """Makes evaluators of a tokenizer by their names.

    Raises:
      ValueError: a name is not known; the message has the nearest ones.
    """
    for name in names:
        if name not in EVALUATORS:
            raise ValueError(
                f"unknown metric {name!r}{nearest_names(name, EVALUATORS)} (known: {', '.join(EVALUATORS)})"
            )
    return {name: EVALUATORS[name](setup) for name in names}


def sums(evaluators: Mapping[str, Evaluator], batch: Mapping[str, Array], output: Any) -> dict[str, Any]:
    """The states of evaluators after one batch alone."""
    return {name: evaluator.update(evaluator.init(), batch, output) for name, evaluator in evaluators.items()}


@auto_axes(lambda *_, **__: PartitionSpec())
def evaluation_step(
    params: Params,
    codebook: Params,
    batch: Mapping[str, Array],
    *,
    model: VQModel,
    evaluators: Mapping[str, Evaluator],
    quantize: bool = True,
) -> dict[str, Any]:
    """Reconstructs a batch in evaluation mode and sums it up; changes nothing.

    Args:
      params: parameters of the model.
      codebook: its codebook collection.
      batch: `image` uint8 or float in [-1, 1], [B, *S, C]; `target` of the same kind where the reconstruction
        is compared with another picture than `image`; `valid` bool [B].
      model: the network.
      evaluators: by name.
      quantize: False bypasses the quantizer.

    Returns:
      The evaluators' states by name, of this batch alone.
    """
    states, _ = reconstruction_step(
        params, codebook, batch, model=model, evaluators=evaluators, quantize=quantize
    )
    return states


def reconstruction_step(
    params: Params,
    codebook: Params,
    batch: Mapping[str, Array],
    *,
    model: VQModel,
    evaluators: Mapping[str, Evaluator],
    quantize: bool = True,
) -> tuple[dict[str, Any], UInt8[Array, "B *S C"]]:
    """Does what `evaluation_step` does, and returns the reconstructions too, for distances between sets."""
    images = ops.normalize_pictures(batch["image"])
    target = ops.normalize_pictures(batch["target"]) if "target" in batch else images
    output: Any = model.apply({"params": params, "codebook": codebook}, images, quantize=quantize)
    states = sums(evaluators, {**batch, "image": images, "target": target}, output)
    return states, ops.to_uint8(output.reconstruction)


class _Pair(NamedTuple):
    """What `nn.VQOutput` is to the evaluators `OF_PAIRS`."""

    reconstruction: Float[Array, "B *S C"]
    outputs: Float[Array, "B *S C"]


def pair_step(batch: Mapping[str, Array], *, evaluators: Mapping[str, Evaluator]) -> dict[str, Any]:
    """Sums up pictures beside those that they are compared with.

    Args:
      batch: `image` uint8 [B, *S, C], the pictures to judge; `target` uint8 of the same shape; `valid` bool
        [B].
      evaluators: by name, of `OF_PAIRS`.
    """
    pictures, target = (ops.normalize_pictures(batch[name]) for name in ("image", "target"))
    return sums(evaluators, {**batch, "image": pictures, "target": target}, _Pair(pictures, pictures))


def evaluate(
    step: Callable[[Any], dict[str, Any]], batches: Iterable[Any], evaluators: Mapping[str, Evaluator]
) -> Evaluation:
    """Evaluates a model on a held-out set.

    Args:
      step: from a batch to the evaluators' states of this batch, such as `evaluation_step`, jitted.
      batches: the held-out set.
      evaluators: by name.

    Raises:
      ValueError: there is no batch.
    """
    total: dict[str, Any] | None = None
    for batch in batches:
        states = step(batch)
        total = states if total is None else jax.tree.map(operator.add, total, states)
    if total is None:
        raise ValueError("expected at least one batch to evaluate on, got none")
    total = jax.device_get(total)
    figures: dict[str, float] = {}
    for name, evaluator in evaluators.items():
        figures |= evaluator.compute(total[name])
    return Evaluation(figures, total)
