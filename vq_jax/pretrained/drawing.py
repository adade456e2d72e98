"""Codes drawn from a prior batch by batch: any number of them in bounded memory."""

import dataclasses
import math
import operator
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding
from jaxtyping import Int32
from tqdm import tqdm

from vq_jax.configs.priors import PRIORS
from vq_jax.configs.sampling import Options
from vq_jax.errors import UserError, nearest_names
from vq_jax.generate import sample_prior
from vq_jax.generate.common import row_keys
from vq_jax.host.memory import require_memory
from vq_jax.host.streams import progress_stream
from vq_jax.nn import Condition
from vq_jax.pretrained.labels import Labels, class_numbers

if TYPE_CHECKING:
    from vq_jax.pretrained.prior import Prior


def turns(prior: "Prior", num: int | None, labels: Labels) -> tuple[Int32[np.ndarray, " N"] | None, int]:
    """The classes that pictures take in turn, and how many pictures there are.

    Args:
      prior: what draws them.
      num: how many; one for each of the classes when absent.
      labels: classes by number or name; all of the prior's when absent.

    Returns:
      The classes, None for a prior without any, and the number of pictures.

    Raises:
      UserError: a class is not among the prior's, or the number is not positive.
    """
    cycle = None
    if labels is not None:
        cycle = class_numbers(labels, prior.num_classes, prior.class_names)
    elif prior.num_classes is not None:
        cycle = np.arange(prior.num_classes, dtype=np.int32)
    total = num if num is not None else 1 if cycle is None else len(cycle)
    if total < 1:
        raise UserError(f"expected at least one picture to draw, got {total}")
    return cycle, total


def code_batches(
    prior: "Prior",
    num: int | None,
    labels: Labels,
    *,
    seed: int,
    batch_size: int,
    sharding: NamedSharding | None,
    progress: bool,
    options: dict[str, Any],
) -> Iterator[Any]:
    """Draws codes; arguments as in `Prior.sample_batches`.

    Yields:
      Codes, int32 [B, ...], laid out like `model.code_specs`: batches of `batch_size`, the last of the rest.
    """
    chosen = prior.options(options)
    cycle, total = turns(prior, num, labels)
    if batch_size < 1:
        raise UserError(f"expected batch_size of at least 1, got {batch_size}")
    batch, more, out = min(total, batch_size), prior.sampler_arguments(), progress_stream()
    with tqdm(total=total, unit="picture", file=out, disable=not (progress and out.isatty())) as bar:
        for first in range(0, total, batch):
            count = min(batch, total - first)
            some = None
            if cycle is not None:  # the last batch repeats its own labels to fill up: one program for all
                some = np.resize(cycle[np.arange(first, first + count) % len(cycle)], batch)
            codes = prior.call(
                sample_prior,
                row_keys(seed, first, batch),
                condition(some),
                num=batch,
                options=chosen,
                sharding=sharding,
                **more,
            )
            yield jax.tree.map(operator.itemgetter(slice(count)), jax.device_get(codes))
            bar.update(count)


def require_room(prior: "Prior", total: int, size: tuple[int, ...] | None) -> None:
    """Checks that codes, and pictures of a size if one is given, fit into the machine's memory.

    Raises:
      UserError: they do not.
    """
    specs = jax.tree.leaves(prior.model.code_specs)
    one = 4 * sum(math.prod(spec.shape) * spec.codes_per_position for spec in specs)
    if size is not None:
        one += math.prod(size)
    require_memory(
        total * one,
        f"drawing {total} {'sets of codes' if size is None else 'pictures'} at once",
        "draw fewer, or take them batch by batch from sample_batches",
    )


def condition(labels: np.ndarray | None) -> Condition:
    """The condition of a sampler: classes, or none."""
    return Condition(None if labels is None else jnp.asarray(labels))


def check_names(given: Mapping[str, Any], options: type[Options], architecture: str) -> None:
    """Checks that a sampler has the options that are given by name.

    Raises:
      UserError: it has not; the message names the nearest ones, or whose they are.
    """
    takes = [field.name for field in dataclasses.fields(options)]
    foreign, unknown = [], []
    for name in sorted(given.keys() - set(takes)):
        priors = [kind for kind, prior in PRIORS.items() if name in prior.options.__dataclass_fields__]
        if priors:
            foreign.append(f"{name} is an option of {', '.join(priors)}")
        else:
            unknown.append(f"unknown option {name}{nearest_names(name, takes)}")
    if foreign or unknown:
        raise UserError(
            f"{'; '.join(unknown + foreign)}; this prior, {architecture}, takes {', '.join(takes)}"
        )
