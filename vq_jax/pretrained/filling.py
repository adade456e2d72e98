"""Holes in pictures and clips, filled by a prior given what is around them; frames that follow are one."""

import itertools
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from vq_jax.errors import UserError
from vq_jax.generate import fill_codes, sampler_of
from vq_jax.generate.common import fold_in
from vq_jax.generate.inpainting import composite, cover_hole, feather, fill_windows, hole_codes
from vq_jax.host.streams import progress_stream
from vq_jax.nn import Condition
from vq_jax.types import Array, CodeSpec, Key

if TYPE_CHECKING:
    from vq_jax.pretrained.prior import Prior


def fill_holes(
    prior: "Prior",
    pictures: np.ndarray,
    masks: np.ndarray,
    condition: Condition,
    rng: Key[Array, "*R"],
    *,
    ring: int,
    options: dict[str, Any],
) -> np.ndarray:
    """Fills holes in pictures or clips; see `Prior.inpaint`.

    Args:
      prior: what draws the codes.
      pictures: uint8 [B, *S, C].
      masks: bool [B, *S] or [*S].
      condition: of the prior.
      rng: key, or one for each picture [B], whose filling then does not depend on the others.
      ring: see `Prior.inpaint`.
      options: of the prior's sampler.
    """
    window, strides, lead = code_window(prior)
    if masks.ndim == pictures.ndim - 2:
        masks = np.broadcast_to(masks, (len(pictures), *masks.shape))
    _check_masks(pictures, masks)
    unknown = _unknown_codes(prior, masks, ring)
    chosen, calls = prior.options(options), itertools.count()

    def fill(codes: np.ndarray, known: np.ndarray) -> np.ndarray:
        own_rng = fold_in(rng, next(calls))
        given = (jnp.asarray(codes), jnp.asarray(known))
        # what an autoregressive prior is given from the start on, it needs no candidates for
        in_order = bool((np.diff(known.reshape(len(known), -1).astype(np.int8)) <= 0).all())
        more = {"candidates": 1} if in_order else {}
        return np.asarray(prior.call(fill_codes, own_rng, condition, *given, options=chosen, **more))

    covered = [cover_hole(picture, mask) for picture, mask in zip(pictures, masks, strict=True)]
    codes = fill_windows(prior.tokenizer.encode(np.stack(covered)), unknown, window, fill)
    decoded = prior.tokenizer.decode(codes, size=pictures.shape[1:-1])
    parts = zip(pictures, decoded, masks, unknown, strict=True)
    return np.stack(
        [composite(picture, new, feather(mask, grown, strides, lead)) for picture, new, mask, grown in parts]
    )


def continue_clips(
    prior: "Prior",
    clips: np.ndarray,
    frames: int,
    condition: Condition,
    keys: Key[Array, " B"],
    *,
    context: int | None = None,
    progress: bool = False,
    options: dict[str, Any],
) -> np.ndarray:
    """Draws the frames that follow clips, one by one or a window at a time; see `Prior.predict`.

    Args:
      prior: what draws the codes.
      clips: uint8 [B, N, H, W, C].
      frames: to draw.
      condition: of the prior.
      keys: one for each clip.
      context: frames that the prior, or each window, begins with, see `context_frames`.
      progress: show a bar of the windows where there is a terminal.
      options: of the prior's sampler.

    Returns:
      uint8 [B, frames, H, W, C].
    """
    if frames < 1:
        raise UserError(f"expected at least 1 frame to draw, got {frames}")
    context = context_frames(prior, clips.shape[1], context)
    if sampler_of(prior.model).proceed is not None:
        codes = prior.tokenizer.encode(clips[:, -context:])
        return _followed(prior, codes, frames, condition, keys, options)[:, context:]
    whole, out = window_frames(prior), progress_stream()
    new = whole - context
    mask = np.broadcast_to((np.arange(whole) >= context)[:, None, None], (whole, *clips.shape[2:4]))
    last, drawn = clips[:, -context:], []
    rounds = range(-(-frames // new))
    for number in tqdm(rounds, unit="window", file=out, disable=not (progress and out.isatty())):
        window = np.concatenate([last, np.repeat(last[:, -1:], new, axis=1)], axis=1)
        filled = fill_holes(prior, window, mask, condition, fold_in(keys, number), ring=0, options=options)
        drawn.append(filled[:, context:])
        last = np.concatenate([last, drawn[-1]], axis=1)[:, -context:]
    return np.concatenate(drawn, axis=1)[:, :frames]


def longer_clips(
    prior: "Prior",
    codes: np.ndarray,
    frames: int,
    condition: Condition,
    keys: Key[Array, " B"],
    options: dict[str, Any],
) -> np.ndarray:
    """Decodes drawn codes, and draws what `frames` frames lack; returns uint8 [B, frames, H, W, C]."""
    whole = window_frames(prior)
    if sampler_of(prior.model).proceed is not None and frames > whole:
        return _followed(prior, codes, frames - whole, condition, keys, options)
    drawn = prior.tokenizer.decode(codes, size=prior.lengths)
    if frames > whole:
        more = continue_clips(prior, drawn, frames - whole, condition, keys, options=options)
        drawn = np.concatenate([drawn, more], axis=1)
    return drawn[:, :frames]


def _followed(
    prior: "Prior",
    codes: np.ndarray,
    frames: int,
    condition: Condition,
    keys: Key[Array, " B"],
    options: dict[str, Any],
) -> np.ndarray:
    """Decodes the codes of clips and of the frames that the prior draws after them."""
    proceed, more = sampler_of(prior.model).proceed, prior.sampler_arguments()
    new = prior.call(
        proceed, keys, condition, jnp.asarray(codes), frames, options=prior.options(options), **more
    )
    whole = np.concatenate([codes, np.asarray(new)], axis=1)
    return prior.tokenizer.decode(whole, size=(whole.shape[1], *prior.lengths[1:]))


def context_frames(prior: "Prior", given: int, context: int | None = None) -> int:
    """Returns how many of the given frames a prior looks at: as many as whole codes stand for.

    By default they are the last ones that fill at most half of the prior's window; for a masked prior that
    has learnt the task `next` and not `prediction`, all of the window but its last code in time; for a prior
    that draws frame by frame, as many as it sees.

    Args:
      prior: it.
      given: frames there are.
      context: wanted.

    Raises:
      UserError: there are none, the prior is one of pictures, or as many leave nothing to draw or do not
        stand for whole codes.
    """
    whole = window_frames(prior)
    one_by_one = sampler_of(prior.model).proceed is not None
    if one_by_one:
        stride, first, most = 1, 1, given
    else:
        _, strides, lead = code_window(prior)
        stride = strides[0]
        first, most = stride - lead, whole - stride  # frames of the first code, and of all but the last
    if given < first:
        raise UserError(f"expected at least {first} given frames, got {given}")
    if most < first:
        raise UserError(
            f"this prior draws clips of {whole} frames as one code in time, and cannot continue any"
        )
    if context is None:
        tasks = getattr(prior.model, "tasks", ())
        longest = most if "next" in tasks and "prediction" not in tasks else (whole + first) // 2
        longest = getattr(prior.model, "context", longest) if one_by_one else longest
        wanted = max(first, min(given, longest))
        return wanted - (wanted - first) % stride
    if not first <= context <= min(most, given) or (context - first) % stride:
        raise UserError(
            f"expected a context of {first} + a multiple of {stride} frames, up to {min(most, given)}, "
            f"got {context}"
        )
    return context


def checked_clips(prior: "Prior", clips: np.ndarray) -> np.ndarray:
    """Returns clips [B, N, H, W, C] as an array.

    Raises:
      UserError: they are not ones that the prior can continue.
    """
    window_frames(prior)
    clips = np.asarray(clips)
    prior.tokenizer.check(clips)
    _, height, width = prior.lengths
    if clips.shape[2:4] != (height, width):
        raise UserError(
            f"expected clips of {width} x {height} px, which this prior draws, got "
            f"{clips.shape[3]} x {clips.shape[2]}"
        )
    return clips


def with_gap(prior: "Prior", first: np.ndarray, last: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns clips of the prior's length that begin and end with the given ones, and the mask of the rest.

    Raises:
      UserError: nothing is left between them, or their shapes do not go together.
    """
    first, last = checked_clips(prior, first), checked_clips(prior, last)
    whole = window_frames(prior)
    between = whole - first.shape[1] - last.shape[1]
    if between < 1 or len(first) != len(last):
        raise UserError(
            f"expected the first and the last of {whole} frames with some between them, of as many clips, "
            f"got {first.shape} and {last.shape}"
        )
    gap = np.repeat(first[:, -1:], between, axis=1)
    mask = np.zeros((whole, *first.shape[2:4]), bool)
    mask[first.shape[1] : -last.shape[1]] = True
    return np.concatenate([first, gap, last], axis=1), mask


def with_margins(
    prior: "Prior", pictures: np.ndarray, *, left: int, top: int, right: int, bottom: int
) -> tuple[np.ndarray, np.ndarray]:
    """Returns pictures with their edges repeated, so many pixels further, and the mask of what was added.

    Raises:
      UserError: a number is negative, or all are 0, or they are no pictures of the prior.
    """
    pictures = np.asarray(pictures)
    prior.tokenizer.check(pictures)
    added = {"left": left, "top": top, "right": right, "bottom": bottom}
    wrong = {name: pixels for name, pixels in added.items() if pixels < 0}
    if wrong or not any(added.values()):
        raise UserError(f"expected pixels to add, none of them negative and one at least above 0: {added}")
    margins = [*((0, 0) for _ in pictures.shape[:-3]), (top, bottom), (left, right)]
    masks = np.pad(np.zeros(pictures.shape[:-1], bool), margins, constant_values=True)
    return np.pad(pictures, [*margins, (0, 0)], mode="edge"), masks


def check_length(prior: "Prior", frames: int) -> None:
    """Checks how many frames a clip is to be drawn with.

    Raises:
      UserError: the prior draws pictures, or there are none.
    """
    window_frames(prior)
    if frames < 1:
        raise UserError(f"expected at least 1 frame, got {frames}")


def window_frames(prior: "Prior") -> int:
    """Returns the frames of the clips that a prior draws.

    Raises:
      UserError: it draws pictures.
    """
    if prior.frames is None:
        raise UserError(
            f"the prior {prior.config.name} draws pictures, not clips: give one over the codes of a "
            "tokenizer of video, such as prior-moving-fashion"
        )
    return prior.frames


def code_window(prior: "Prior") -> tuple[tuple[int, ...], tuple[int, ...], int]:
    """Lengths of the prior's grid, pixels a code along each axis, and frames that the first code lacks.

    Raises:
      UserError: this prior cannot inpaint.
    """
    specs, tokenizer, lengths = prior.model.code_specs, prior.tokenizer, prior.lengths
    reason = ""
    if sampler_of(prior.model).fill is None:
        reason = (
            "it draws whole pictures or frames and cannot keep given codes; train another kind, as "
            "prior-fashion"
        )
    elif not isinstance(specs, CodeSpec):
        reason = "it models several grids of codes, and a hole is filled in one"
    elif not tokenizer.strides:
        reason = (
            "its tokenizer's codes have no place in the picture; train one with a convolutional tokenizer"
        )
    elif len(specs.shape) != len(lengths):
        reason = f"its codes have {len(specs.shape)} axes, and its pictures {len(lengths)}"
    if reason:
        raise UserError(f"this prior, {prior.config.prior.architecture}, cannot inpaint: {reason}")
    strides = tokenizer.strides
    lead = 0
    if len(lengths) == 3:
        lead = strides[0] - tokenizer.model.padded_lengths((1, *lengths[1:]))[0]
    return specs.shape, strides, lead


def _unknown_codes(prior: "Prior", masks: np.ndarray, ring: int) -> np.ndarray:
    """The codes to draw: masks bool [B, *S] to bool [B, *s]."""
    window, strides, lead = code_window(prior)
    lengths = prior.lengths
    *time, lowest, narrowest = lengths
    *given_time, height, width = masks.shape[1:]
    if ring < 0:
        raise UserError(f"expected a ring of at least 0 codes, got {ring}")
    if height < lowest or width < narrowest:
        raise UserError(
            f"expected pictures of at least {narrowest} x {lowest} px, which this prior draws, got "
            f"{width} x {height}"
        )
    if given_time != time:
        raise UserError(f"expected clips of {time[0]} frames, which this prior draws, got {given_time[0]}")
    if ring * strides[-2] >= lowest or ring * strides[-1] >= narrowest:
        raise UserError(f"a ring of {ring} codes does not fit into the prior's grid of {window}")
    unknown = np.stack([hole_codes(mask, strides, ring, lead) for mask in masks])
    if unknown.reshape(len(unknown), -1).all(axis=1).any():
        raise UserError("the mask touches every code of the picture and leaves nothing known: sample")
    return unknown


def _check_masks(pictures: np.ndarray, masks: np.ndarray) -> None:
    if masks.dtype != np.bool_:
        raise UserError(f"expected bool masks, true where a pixel is to be filled, got {masks.dtype}")
    if masks.shape != pictures.shape[:-1]:
        wanted, found = (
            " x ".join(map(str, (*shape[1:-2], *reversed(shape[-2:]))))
            for shape in (pictures.shape[:-1], masks.shape)
        )
        raise UserError(
            f"expected a mask of the picture's size, {wanted} px, got {found} "
            f"({len(masks)} for {len(pictures)} pictures)"
        )
    for mask in masks:
        if not mask.any():
            raise UserError("the mask is empty: mark the pixels to fill")
        if mask.all():
            raise UserError("the mask is full and leaves nothing of the picture: sample new ones instead")
