"""Frechet distance of two sets of features: of the normal distributions with their means and covariances."""

import numpy as np
from jaxtyping import Float64


def frechet_distance(
    mean: Float64[np.ndarray, " D"],
    covariance: Float64[np.ndarray, "D D"],
    other_mean: Float64[np.ndarray, " D"],
    other_covariance: Float64[np.ndarray, "D D"],
) -> float:
    """Returns |m - m'|^2 + tr(S + S' - 2 (S S')^(1/2)), squared as FID is.

    The trace of the root is the sum of the roots of the eigenvalues of S^(1/2) S' S^(1/2), which is
    symmetric: no complex numbers appear and nothing is added to the diagonal of a covariance without full
    rank.

    References:
      Dowson, Landau 1982, The Frechet distance between multivariate normal distributions. Heusel et al. 2017,
      arXiv:1706.08500, equation 6, over features of Inception.
    """
    root = _root(covariance)
    product = root @ other_covariance @ root
    values = np.linalg.eigvalsh(0.5 * (product + product.T))
    trace = np.trace(covariance) + np.trace(other_covariance) - 2 * np.sum(np.sqrt(np.maximum(values, 0.0)))
    return float(np.sum(np.square(mean - other_mean)) + trace)


def _root(matrix: Float64[np.ndarray, "D D"]) -> Float64[np.ndarray, "D D"]:
    values, vectors = np.linalg.eigh(0.5 * (matrix + matrix.T))
    root: np.ndarray = (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T
    return root
