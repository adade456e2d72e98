"""Classes as a user gives them, by number or by name, as the numbers that a prior is conditioned on."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int32

from vq_jax.errors import UserError, nearest_names

Labels = int | str | Sequence[int | str] | np.ndarray | None
"""Classes by number or by name."""
_NAMED = 20  # classes named in a message


def class_numbers(
    labels: Labels, num_classes: int | None, class_names: tuple[str, ...] | None
) -> Int32[np.ndarray, " N"]:
    """Checks classes and returns their numbers.

    Args:
      labels: one or several, numbers or names.
      num_classes: how many there are; None for none.
      class_names: their names in the order of their numbers, if they have names.

    Raises:
      UserError: there are no classes, or one is not among them.
    """
    if num_classes is None:
        raise UserError("this prior has no classes: it was trained without labels, give none")
    given = [labels] if isinstance(labels, str) else labels
    items = given.tolist() if isinstance(given, np.ndarray) else given
    if isinstance(items, Sequence):
        given = [_number(item, class_names or ()) if isinstance(item, str) else item for item in items]
    values = np.atleast_1d(np.asarray(given))
    if values.ndim != 1 or not len(values) or not np.issubdtype(values.dtype, np.integer):
        raise UserError(f"expected integer labels, or names of classes, got {labels!r}")
    wrong = values[(values < 0) | (values >= num_classes)]
    if wrong.size:
        raise UserError(
            f"expected labels from 0 to {num_classes - 1}, the prior's {num_classes} classes, got {wrong[0]}"
        )
    return values.astype(np.int32)


def _number(name: str, names: tuple[str, ...]) -> int:
    if name in names:
        return names.index(name)
    known = f"{', '.join(names[:_NAMED])}{', ...' if len(names) > _NAMED else ''}" or "which have no names"
    raise UserError(
        f"expected a class of the prior ({known}) or its number, got {name!r}{nearest_names(name, names)}"
    )


def by_name_or_number(texts: Sequence[str], class_names: tuple[str, ...] | None) -> list[int | str]:
    """Reads classes from a command line: what is no name and looks like a number is one."""
    names = class_names or ()
    is_number = [text not in names and text.removeprefix("-").isdecimal() for text in texts]
    return [int(text) if number else text for text, number in zip(texts, is_number, strict=True)]
