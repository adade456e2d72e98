"""One sampler for every prior: the one that fits it."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen
from jax.sharding import NamedSharding

from vq_jax.generate.autoregressive import sample_gpt, sample_pixelcnn
from vq_jax.generate.masked import DEFAULT_MASKING, MaskedOptions, sample_maskgit
from vq_jax.generate.options import DEFAULT_OPTIONS, SamplingOptions
from vq_jax.nn import GPT, Condition, MaskGIT, PixelCNN
from vq_jax.types import Array, Bool, Int, Key, Params


def sample_prior(
    model: linen.Module,
    variables: Params,
    rng: Key[Array, ""],
    condition: Condition | None = None,
    *,
    num: int | None = None,
    options: SamplingOptions = DEFAULT_OPTIONS,
    masking: MaskedOptions = DEFAULT_MASKING,
    codes: Int[Array, "B ..."] | None = None,
    known: Bool[Array, "B ..."] | None = None,
    sharding: NamedSharding | None = None,
) -> Int[Array, "B ..."]:
    """Draws grids of codes from a prior; see `sample_maskgit`, `sample_gpt` and `sample_pixelcnn`.

    Args:
      model: the prior.
      variables: its parameters.
      rng: key.
      condition: labels int32 [B]; None for an unconditional prior.
      num: grids to draw.
      options: temperature, filters and guidance.
      masking: of masked priors.
      codes: given codes where `known` is true.
      known: positions that keep their given codes.
      sharding: of the batch over a mesh.

    Raises:
      TypeError: no sampler is known for this prior.
      ValueError: a shape, a label or an option does not fit it.
    """
    shared: dict[str, Any] = {
        "num": num,
        "options": options,
        "codes": codes,
        "known": known,
        "sharding": sharding,
    }
    if isinstance(model, MaskGIT):
        drawn: Any = sample_maskgit(model, variables, rng, condition, masking=masking, **shared)
        return drawn
    if isinstance(model, GPT):
        return sample_gpt(model, variables, rng, condition, **shared)
    if isinstance(model, PixelCNN):
        return sample_pixelcnn(model, variables, rng, condition, **shared)
    raise TypeError(f"no sampler for a prior of type {type(model).__name__}")


def fill_codes(
    model: linen.Module,
    variables: Params,
    rng: Key[Array, ""],
    condition: Condition | None,
    codes: Int[Array, "B ..."],
    known: Bool[Array, "B ..."],
    *,
    options: SamplingOptions = DEFAULT_OPTIONS,
    masking: MaskedOptions = DEFAULT_MASKING,
    candidates: int = 8,
) -> Int[Array, "B ..."]:
    """Draws the codes that are not known, given those that are.

    A masked prior sees all known codes. An autoregressive one sees those before a position only: of
    several candidates, drawn so, one is drawn anew with weights: the probability of the known codes
    given all before them (sampling importance resampling).

    Args:
      model: the prior.
      variables: its parameters.
      rng: key.
      condition: labels int32 [B]; None for an unconditional prior.
      codes: int32 [B, *model.code_shape]; without meaning where not known.
      known: bool of the same shape.
      options: temperature, filters and guidance.
      masking: of masked priors.
      candidates: of autoregressive priors, at least 1.

    References:
      Rubin 1988, Using the SIR algorithm to simulate posterior distributions, Bayesian Statistics 3.
    """
    sample_rng, choice_rng = jax.random.split(rng)
    if isinstance(model, MaskGIT):
        return sample_prior(
            model,
            variables,
            sample_rng,
            condition,
            options=options,
            masking=masking,
            codes=codes,
            known=known,
        )

    def repeat(tree: Any) -> Any:
        return jax.tree.map(lambda x: jnp.repeat(x, candidates, axis=0), tree)

    many, many_known, many_condition = repeat((codes, known, condition))
    drawn = sample_prior(
        model, variables, sample_rng, many_condition, options=options, codes=many, known=many_known
    )
    if candidates == 1:
        return drawn
    logits: Any = jax.jit(model.apply)(variables, drawn, many_condition)
    log_p = jax.nn.log_softmax(logits, axis=-1)
    of_codes = jnp.take_along_axis(log_p, drawn[..., None], axis=-1)[..., 0]
    weights = jnp.where(many_known, of_codes, 0.0).reshape(codes.shape[0], candidates, -1).sum(-1)
    choice = jax.random.categorical(choice_rng, weights, axis=-1)
    return drawn.reshape(codes.shape[0], candidates, *codes.shape[1:])[jnp.arange(codes.shape[0]), choice]
