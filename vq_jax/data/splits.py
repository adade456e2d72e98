"""Which records of a data set without a test set of its own are held out."""

import hashlib
import os
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Integer

_GOLDEN = 0x9E3779B1  # 2**32 over the golden ratio: multiples of it spread evenly modulo 2**32


def even_places(count: int) -> Float[np.ndarray, " N"]:
    """Gives each index of a sequence a place in [0, 1), neighbours far apart.

    Returns:
      float64 [N]; the places of the first records stay as they are when others are appended.
    """
    return (np.arange(count, dtype=np.uint64) * np.uint64(_GOLDEN) % 2**32) / 2**32


def places_of(names: Sequence[str]) -> Float[np.ndarray, " N"]:
    """Gives each name a place in [0, 1) by its hash: float64 [N]."""
    digests = (hashlib.blake2b(os.fsencode(name), digest_size=4).digest() for name in names)
    return np.array([int.from_bytes(digest) / 2**32 for digest in digests])


def held_out(
    places: Float[np.ndarray, " N"], fraction: float, readable: Bool[np.ndarray, " N"]
) -> Bool[np.ndarray, " N"]:
    """Selects the records whose place lies below `fraction`.

    Both parts get a readable record where there are at least two: where a part would have none, the
    record nearest to the border moves to it. A single record is never held out.

    Args:
      places: float64 [N] in [0, 1), a fixed property of each record.
      fraction: share to hold out.
      readable: bool [N], false for records known to be broken.

    Returns:
      bool [N], true for the records held out.
    """
    test = places < fraction
    candidates = np.flatnonzero(readable)
    ordered = candidates[np.argsort(places[candidates], kind="stable")]
    if test[ordered].all():
        test[ordered[-1:]] = False
    if len(ordered) >= 2 and not test[ordered].any():
        test[ordered[0]] = True
    return test


def evenly_spaced(count: int, limit: int) -> list[int]:
    """Returns up to `limit` of the integers from 0 to `count` - 1, evenly spaced, in order.

    Example:
      >>> evenly_spaced(10, 4)
      [1, 3, 6, 8]
    """
    if limit >= count:
        return list(range(count))
    return [(2 * k + 1) * count // (2 * limit) for k in range(limit)]


def evenly_over_classes(labels: Integer[np.ndarray, " N"], limit: int) -> list[int]:
    """Returns up to `limit` indices with each class as often as the others where it can be, class by class.

    Of more classes than `limit`, evenly spaced ones have one each; within a class, they are evenly spaced.

    Args:
      labels: class of each record, integers [N].
      limit: most indices.

    Example:
      >>> evenly_over_classes(np.array([0, 0, 0, 0, 1, 2, 2, 2]), 5)
      [1, 3, 4, 5, 7]
    """
    present = np.unique(labels)
    members = [np.flatnonzero(labels == present[k]) for k in evenly_spaced(len(present), limit)]
    counts = [0] * len(members)
    for _ in range(min(limit, sum(map(len, members)))):
        # One more of the class with the fewest so far that has another.
        counts[min((n, k) for k, n in enumerate(counts) if n < len(members[k]))[1]] += 1
    chosen = zip(members, counts, strict=True)
    return [int(found[k]) for found, count in chosen for k in evenly_spaced(len(found), count)]
