"""What a prior of frames sees in training beside codes: views of decoded frames, some its own guesses."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen
from jax.sharding import Mesh

from vq_jax import ops
from vq_jax.configs.runs import PriorConfig
from vq_jax.nn import Condition
from vq_jax.pretrained.tokenizer import Tokenizer
from vq_jax.train import sharding
from vq_jax.train.steps.own_frames import own_frames
from vq_jax.types import Array, Params

_WARM = 0.15  # share of a run before own guesses: the first ones are too bad to learn from
_OWN = 1  # folded into the run's key: the step's own draws are others


class SeenFrames:
    """Makes the inputs of a step from pictures, and those of an evaluation from codes; see `own_frames`."""

    def __init__(self, config: PriorConfig, model: Any, tokenizer: Tokenizer, mesh: Mesh) -> None:
        whole, parts = sharding.replicated(mesh), sharding.batch_sharding(mesh)
        self._variables: Params = sharding.replicate(tokenizer.variables, mesh)
        networks: Any = {"prior_model": model, "tokenizer_model": tokenizer.model}
        first = int(_WARM * config.training.steps)

        def encode(
            variables: Params, params: Params, batch: dict[str, Array], rng: Array, step: Array
        ) -> dict[str, Array]:
            codes, seen = own_frames(
                jax.lax.with_sharding_constraint(params, whole),  # each device guesses for its own clips
                ops.normalize_pictures(batch["image"]),
                jax.random.fold_in(jax.random.fold_in(rng, _OWN), step),
                tokenizer_variables=variables,
                labels=batch.get("label"),
                share=jnp.where(step < first, 0.0, model.own_frames),
                **networks,
            )
            return {"codes": codes, "past": seen.codes, "views": seen.features}

        self._encode = jax.jit(encode, in_shardings=(whole, None, parts, whole, whole), out_shardings=parts)
        self._views = jax.jit(functools.partial(tokenizer.model.apply, method="views"))

    def inputs(self, params: Params, batch: dict[str, Array], rng: Array, step: int) -> dict[str, Array]:
        """Codes, those of the frames that the prior sees, and views of these, of pictures and labels."""
        found: dict[str, Array] = self._encode(self._variables, params, batch, rng, step)
        return found

    def condition(self, codes: Array, labels: Array | None) -> Condition:
        """The condition of codes on the true frames before them."""
        return Condition(labels=labels, features=self._views(self._variables, codes))


def seen_frames(
    config: PriorConfig, model: linen.Module, tokenizer: Tokenizer, mesh: Mesh
) -> SeenFrames | None:
    """Returns what makes the frames that a prior sees; None for one that sees codes alone."""
    return SeenFrames(config, model, tokenizer, mesh) if config.prior.sees_frames else None
