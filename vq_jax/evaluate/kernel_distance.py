"""Kernel distance of two sets of features: the squared maximum mean discrepancy under a cubic kernel."""

import numpy as np
from jaxtyping import Float

_SEED = 0


def kernel_distance(
    a: Float[np.ndarray, "N D"], b: Float[np.ndarray, "M D"], *, subsets: int = 100, size: int = 1000
) -> tuple[float, float]:
    """Returns the mean and the standard deviation of the distance over random subsets of both sets.

    The kernel is (x y / D + 1)^3 and the estimate unbiased: it may be slightly negative. A subset is drawn
    without repetition, the same ones each time; sets with fewer than `size` rows are taken whole, as far as
    the smaller one goes.

    Args:
      a: features.
      b: features of as many columns.
      subsets: how many.
      size: rows of each.

    Raises:
      ValueError: a set has fewer than two rows.

    References:
      Binkowski et al. 2018, Demystifying MMD GANs, arXiv:1801.01401, section 4: KID, with
      Inception's features.
    """
    size = min(size, len(a), len(b))
    if size < 2:
        raise ValueError(f"expected at least two rows of features on each side, got {len(a)} and {len(b)}")
    generator = np.random.default_rng(_SEED)
    found = []
    for _ in range(subsets):
        rows = (generator.choice(len(features), size, replace=False) for features in (a, b))
        found.append(_discrepancy(*(features[some] for features, some in zip((a, b), rows, strict=True))))
        if size == len(a) == len(b):  # each subset is the whole
            break
    return float(np.mean(found)), float(np.std(found))


def _discrepancy(a: Float[np.ndarray, "N D"], b: Float[np.ndarray, "N D"]) -> float:
    count, width = a.shape
    a, b = a.astype(np.float64), b.astype(np.float64)
    inside = sum((x @ x.T / width + 1.0) ** 3 for x in (a, b))
    between = (a @ b.T / width + 1.0) ** 3
    same = np.sum(inside) - np.trace(inside)
    return float(same / (count * (count - 1)) - 2.0 * np.mean(between))
