"""The sampler of each prior, and functions that draw from any prior by it."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

from flax import linen
from jax.sharding import NamedSharding

from vq_jax.configs.sampling import MaskedOptions, NoiseOptions, Options, SamplingOptions
from vq_jax.generate.autoregressive import fill_autoregressive, sample_gpt, sample_pixelcnn
from vq_jax.generate.masked import adapt_steps, fill_masked, sample_maskgit
from vq_jax.generate.next_frames import adapt_frame_steps, continue_frames, sample_frames
from vq_jax.generate.noise import sample_noise
from vq_jax.nn import (
    GPT,
    Condition,
    MaskedCNN,
    MaskGIT,
    NextFrameCNN,
    NoiseGenerator,
    PixelCNN,
    PostNormMaskGIT,
    VQModel,
)
from vq_jax.types import Array, Key, Params


def _unchanged(options: Any, model: Any) -> Any:
    return options


@dataclasses.dataclass(frozen=True)
class Sampler:
    """How codes are drawn from a kind of prior.

    Attributes:
      sample: called as `sample(model, variables, rng, condition, *, num, options, sharding)`; returns codes
        int32, batch first, laid out like `model.code_specs`. Where `fill` is given, it takes `codes` and
        `known` too.
      options: the class of its options.
      fill: called as `fill(model, variables, rng, condition, codes, known, *, options, candidates)`; returns
        the codes with those that are not known drawn given the others. None where the prior cannot.
      adapt: called as `adapt(options, model)`; returns the options of a run as the model can take them.
      needs_tokenizer: whether `sample` and `proceed` take `tokenizer_model` and `tokenizer_variables` too.
      proceed: called as `proceed(model, variables, rng, condition, codes, frames, *, options)`; returns the
        codes of the frames that follow those of given codes, int32 [B, frames, ...]. None where a clip is
        continued by filling a window, or not at all.
    """

    sample: Callable[..., Any]
    options: type[Options]
    fill: Callable[..., Any] | None = None
    adapt: Callable[[Any, Any], Any] = _unchanged
    needs_tokenizer: bool = False
    proceed: Callable[..., Any] | None = None


SAMPLERS: dict[type[linen.Module], Sampler] = {
    GPT: Sampler(sample_gpt, SamplingOptions, functools.partial(fill_autoregressive, sample_gpt)),
    PixelCNN: Sampler(
        sample_pixelcnn, SamplingOptions, functools.partial(fill_autoregressive, sample_pixelcnn)
    ),
    MaskGIT: Sampler(sample_maskgit, MaskedOptions, fill_masked, adapt_steps),
    PostNormMaskGIT: Sampler(sample_maskgit, MaskedOptions, fill_masked, adapt_steps),
    MaskedCNN: Sampler(sample_maskgit, MaskedOptions, fill_masked, adapt_steps),
    NextFrameCNN: Sampler(
        sample_frames,
        MaskedOptions,
        adapt=adapt_frame_steps,
        needs_tokenizer=True,
        proceed=continue_frames,
    ),
    NoiseGenerator: Sampler(sample_noise, NoiseOptions, needs_tokenizer=True),
}
"""Samplers by the class of the prior; a subclass of a prior has its sampler unless it has its own."""


def sampler_of(model: linen.Module) -> Sampler:
    """Returns the sampler of a prior.

    Raises:
      TypeError: it has none; the message says which priors have one.
    """
    for base in type(model).__mro__:
        if base in SAMPLERS:
            return SAMPLERS[base]
    known = ", ".join(prior.__name__ for prior in SAMPLERS)
    raise TypeError(
        f"no sampler for a prior of type {type(model).__name__} (there are for {known}): add one to "
        "vq_jax.generate.SAMPLERS"
    )


def adapt_options(options: Options, model: linen.Module) -> Options:
    """Returns the options of a run as its prior takes them: without guidance where there are no classes."""
    prior: Any = model
    adapted: Any = sampler_of(model).adapt(options, model)
    if prior.num_classes is None and getattr(adapted, "guided", False):
        adapted = dataclasses.replace(adapted, guidance=1.0)
    chosen: Options = adapted
    return chosen


def sample_prior(
    model: linen.Module,
    variables: Params,
    rng: Key[Array, "*R"],
    condition: Condition | None = None,
    *,
    num: int | None = None,
    options: Options | None = None,
    codes: Any = None,
    known: Any = None,
    sharding: NamedSharding | None = None,
    tokenizer_model: VQModel | None = None,
    tokenizer_variables: Params | None = None,
) -> Any:
    """Draws codes from a prior by its sampler.

    Args:
      model: the prior.
      variables: its parameters.
      rng: key, or one for each picture [B], whose codes then do not depend on the others.
      condition: labels int32 [B]; None for an unconditional prior.
      num: pictures to draw codes of, B.
      options: of the class that its sampler takes; the defaults when absent.
      codes: given codes where `known` is true, laid out like `model.code_specs`, int32 [B, ...].
      known: bool, laid out like the codes; positions that keep their given codes.
      sharding: of the batch over a mesh.
      tokenizer_model: whose codes are drawn; a noise generator and a prior of frames need it.
      tokenizer_variables: variables of the tokenizer.

    Returns:
      int32 codes [B, ...], laid out like `model.code_specs`.

    Raises:
      TypeError: the prior has no sampler, or the options are of another class than its sampler's.
      ValueError: a shape, a label or an option does not fit the prior, or it cannot keep given codes.
    """
    sampler = sampler_of(model)
    more: dict[str, Any] = {}
    if codes is not None or known is not None:
        _check_fill(sampler, model)
        more = {"codes": codes, "known": known}
    if sampler.needs_tokenizer:
        if tokenizer_model is None or tokenizer_variables is None:
            raise ValueError(
                f"a {type(model).__name__} draws codes of a tokenizer: give tokenizer_model and "
                "tokenizer_variables"
            )
        more |= {"tokenizer_model": tokenizer_model, "tokenizer_variables": tokenizer_variables}
    chosen = adapt_options(sampler.options(), model) if options is None else options
    return sampler.sample(
        model, variables, rng, condition, num=num, options=chosen, sharding=sharding, **more
    )


def fill_codes(
    model: linen.Module,
    variables: Params,
    rng: Key[Array, ""],
    condition: Condition | None,
    codes: Any,
    known: Any,
    *,
    options: Options | None = None,
    candidates: int = 8,
) -> Any:
    """Draws the codes that are not known, given those that are.

    A masked prior sees all known codes. An autoregressive one sees only those before a position; see
    `fill_autoregressive` for how it respects the others.

    Args:
      model: the prior.
      variables: its parameters.
      rng: key.
      condition: labels int32 [B]; None for an unconditional prior.
      codes: int32 [B, ...], laid out like `model.code_specs`; without meaning where not known.
      known: bool, laid out like the codes.
      options: of the class that its sampler takes; the defaults when absent.
      candidates: drawn by an autoregressive prior for each grid, at least 1.

    Raises:
      TypeError: the prior has no sampler, or the options are of another class than its sampler's.
      ValueError: a shape, a label or an option does not fit the prior, or it cannot keep given codes.
    """
    sampler = sampler_of(model)
    fill = _check_fill(sampler, model)
    chosen = adapt_options(sampler.options(), model) if options is None else options
    return fill(model, variables, rng, condition, codes, known, options=chosen, candidates=candidates)


def _check_fill(sampler: Sampler, model: linen.Module) -> Callable[..., Any]:
    if sampler.fill is None:
        raise ValueError(
            f"a {type(model).__name__} draws whole pictures or frames and cannot keep given ones"
        )
    return sampler.fill
