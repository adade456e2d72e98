"""What the samplers share: checks of their arguments, and the doubled batch of guidance."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding

from vq_jax.nn.priors import Condition, LabelledPrior
from vq_jax.types import Array, Bool, Int, Key


def check_known(
    shape: tuple[int, ...], codes: Int[Array, "B ..."] | None, known: Bool[Array, "B ..."] | None
) -> None:
    """Raises ValueError unless codes and known are both absent, or both of `shape` and of their dtype."""
    if codes is None and known is None:
        return
    if codes is None or known is None:
        raise ValueError("give codes and known together: known says which of the codes are kept")
    if codes.shape != shape or known.shape != shape:
        raise ValueError(f"expected codes and known of shape {shape}, got {codes.shape} and {known.shape}")
    if not jnp.issubdtype(codes.dtype, jnp.integer) or known.dtype != jnp.bool_:
        raise ValueError(f"expected integer codes and bool known, got {codes.dtype} and {known.dtype}")


def check_labels(
    model: LabelledPrior,
    condition: Condition | None,
    num: int | None,
    codes: Array | None,
    *,
    guided: bool,
) -> int:
    """Checks the labels against the model, and returns the number of grids to draw.

    Raises:
      ValueError: the number is not given or not the same everywhere, a label is out of range or missing or
        the prior takes none, or the prior cannot be guided.
    """
    labels = None if condition is None else condition.labels
    sizes: set[int] = {array.shape[0] for array in (labels, codes) if array is not None}
    if num is not None:
        sizes.add(num)
    if len(sizes) != 1:
        found = "nothing" if not sizes else " and ".join(map(str, sorted(sizes)))
        raise ValueError(f"expected one batch size from num, condition.labels and codes, got {found}")
    batch = sizes.pop()
    if batch < 1:
        raise ValueError(f"expected at least one grid to draw, got num = {batch}")
    model.check_condition(condition, batch)
    if guided and model.num_classes is None:
        raise ValueError(
            f"guidance needs classes, and this {type(model).__name__} is unconditional (num_classes = None): "
            "leave guidance at 1"
        )
    if guided:
        _ = model.null_label  # raises where there is none
    if labels is not None and model.num_classes is not None and not isinstance(labels, jax.core.Tracer):
        values = np.asarray(labels)
        highest = model.num_classes - (model.class_dropout == 0.0)  # num_classes is the null label
        if values.min() < 0 or values.max() > highest:
            wrong = values[(values < 0) | (values > highest)][0]
            raise ValueError(
                f"expected labels from 0 to {model.num_classes - 1}, got {wrong}; the prior has "
                f"{model.num_classes} classes"
            )
    return batch


def doubled(x: Array, guided: bool) -> Array:
    """Repeats the batch where there is guidance, for a conditional and an unconditional half."""
    return jnp.concatenate([x, x]) if guided else x


def with_null(model: LabelledPrior, condition: Condition | None, guided: bool) -> Condition | None:
    """The condition of a doubled batch where there is guidance: without labels in its second half."""
    if not guided or condition is None or condition.labels is None:
        return condition
    null = jnp.full_like(condition.labels, model.null_label)
    return Condition(labels=jnp.concatenate([condition.labels, null]))


def row_keys(seed: int, first: int, count: int) -> Key[Array, " B"]:
    """Returns keys for the pictures from number `first` on: one each, so that the batch does not matter."""
    numbers = jnp.arange(first, first + count, dtype=jnp.uint32)
    keys: Array = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(seed), numbers)
    return keys


def fold_in(rng: Key[Array, "*R"], number: int | Array) -> Key[Array, "*R"]:
    """`jax.random.fold_in` of one key, or of the keys of the rows of a batch."""
    return of_rows(lambda key: jax.random.fold_in(key, number), rng)


def of_rows(draw: Callable[..., Any], rng: Key[Array, "*R"], *arrays: Array) -> Any:
    """Calls a function of a key and of arrays [B, ...]; with the keys of the rows, [B], once for each row.

    What a row draws from its own key does not depend on the others, or on how many there are.
    """
    return jax.vmap(draw)(rng, *arrays) if rng.ndim else draw(rng, *arrays)


def shard(x: Array, sharding: NamedSharding | None) -> Array:
    """Spreads an array as `sharding` says, if there is one."""
    return x if sharding is None else jax.lax.with_sharding_constraint(x, sharding)
