"""Precision, recall, density and coverage: how two sets of features lie among each other's neighbours."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Bool, Float

_ROWS = 1024  # of a block of distances


def precision_recall(
    real: Float[np.ndarray, "N D"], made: Float[np.ndarray, "M D"], *, neighbours: int = 3
) -> dict[str, float]:
    """Returns the share of made features that lie among the real ones (`precision`), and the other way round.

    A feature lies among others where it is within the distance from one of these to its `neighbours`-th
    nearest in its own set.

    Raises:
      ValueError: a set has no more rows than neighbours.

    References:
      Kynkäänniemi et al. 2019, Improved precision and recall metric, arXiv:1904.06991, equations 1 and 2,
      with k = 3.
    """
    found = {}
    for name, centres, others in (("precision", real, made), ("recall", made, real)):
        inside = [np.any(block, axis=1) for block in _inside(centres, others, neighbours)]
        found[name] = float(np.mean(np.concatenate(inside)))
    return found


def density_coverage(
    real: Float[np.ndarray, "N D"], made: Float[np.ndarray, "M D"], *, neighbours: int = 5
) -> dict[str, float]:
    """Returns how many real neighbourhoods a made feature lies in, and the share of those with any in them.

    The `density` is divided by `neighbours`: near 1 where both sets are alike, and perhaps above. `coverage`
    is from 0 to 1.

    Raises:
      ValueError: the real set has no more rows than neighbours.

    References:
      Naeem et al. 2020, Reliable fidelity and diversity metrics, arXiv:2002.09797, equations 3 and 4,
      with k = 5.
    """
    lies_in, covered = 0, np.zeros(len(real), bool)
    for block in _inside(real, made, neighbours):
        lies_in += int(np.sum(block))
        covered |= np.any(block, axis=0)
    return {"density": lies_in / (neighbours * len(made)), "coverage": float(np.mean(covered))}


def _inside(
    centres: Float[np.ndarray, "N D"], others: Float[np.ndarray, "M D"], neighbours: int
) -> Iterator[Bool[np.ndarray, "R N"]]:
    """Whether each of the others lies in the neighbourhood of each centre, a block of rows at a time."""
    if len(centres) <= neighbours:
        raise ValueError(
            f"expected more than {neighbours} pictures for as many neighbours, got {len(centres)}"
        )
    radii = np.concatenate(
        # the nearest of its own set is itself
        [np.partition(block, neighbours, axis=1)[:, neighbours] for block in _squares(centres, centres)]
    )
    for block in _squares(others, centres):
        yield block <= radii


def _squares(a: Float[np.ndarray, "N D"], b: Float[np.ndarray, "M D"]) -> Iterator[Float[np.ndarray, "R M"]]:
    """Squared distances of rows, float64, a block of rows of `a` at a time."""
    b = b.astype(np.float64)
    lengths = np.sum(np.square(b), axis=1)
    for start in range(0, len(a), _ROWS):
        rows = a[start : start + _ROWS].astype(np.float64)
        yield np.maximum(np.sum(np.square(rows), axis=1)[:, None] + lengths - 2.0 * rows @ b.T, 0.0)
