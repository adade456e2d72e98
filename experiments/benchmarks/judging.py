"""What the benchmarks of priors judge with: a classifier of Fashion-MNIST, the Frechet distance of its
features, and sheets of pictures to look at.

The classifier is small and learns from the 8,000 training pictures in the package alone, so its distances
mean something next to each other, judged by the same weights, and nothing next to published ones.

References:
  Heusel et al. 2017, GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash Equilibrium,
  arXiv:1706.08500: the Frechet distance of two Gaussians fitted to features, there of Inception v3.
"""

import hashlib
import os
import platform
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen, traverse_util
from PIL import Image

from vq_jax import ops
from vq_jax.configs import DataConfig
from vq_jax.data import open_source
from vq_jax.errors import UserError

Params = dict[str, Any]

EPOCHS, BATCH, SEED = 10, 64, 0
SHIFT = 1  # px that a training picture is moved at most, either way along both axes
SMOOTHING = 0.05  # of the labels
_SHAPE = (28, 28, 1)


class Classifier(linen.Module):
    """Three convolutions and two dense layers, float32: features of width 64, logits of 10 classes."""

    @linen.compact
    def __call__(self, images: jax.Array, train: bool = False) -> tuple[jax.Array, jax.Array]:
        """Pictures uint8 [B, 28, 28, 1] to logits [B, 10] and the features [B, 64] that they are made of."""
        x = ops.normalize_pictures(images)
        for width in (24, 48, 96):
            x = linen.max_pool(linen.relu(linen.Conv(width, (3, 3))(x)), (2, 2), (2, 2))
        x = linen.Dropout(0.3, deterministic=not train)(x.reshape(len(x), -1))
        features = linen.relu(linen.Dense(64)(x))
        logits = linen.Dense(10)(features)
        return logits, features


_MODEL = Classifier()


def fashion(split: Any) -> tuple[np.ndarray, np.ndarray]:
    """Pictures uint8 [N, 28, 28, 1] and labels int32 [N]: 8,000 of the split train, 2,000 of test."""
    source = open_source("fashion", split, DataConfig(), 1)
    records = [source[index] for index in range(len(source))]
    return np.stack([row["image"] for row in records]), np.array([row["label"] for row in records])


def train_classifier(images: np.ndarray, labels: np.ndarray, epochs: int = EPOCHS) -> Params:
    """Trains the classifier; the same arguments give the same weights.

    Pictures are moved by up to a pixel and never mirrored: shoes all point one way.

    Args:
      images: uint8 [N, 28, 28, 1].
      labels: int [N] from 0 to 9.
      epochs: passes over the pictures.

    Returns:
      Parameters.
    """
    steps = epochs * (len(images) // BATCH)
    optimizer = optax.adamw(optax.cosine_onecycle_schedule(steps, 3e-3), weight_decay=1e-2)
    key = jax.random.key(SEED)
    params: Params = jax.jit(_MODEL.init)(key, jnp.zeros((1, *_SHAPE), jnp.uint8))["params"]

    @jax.jit
    def step(params: Any, state: Any, images: Any, labels: Any, number: Any) -> Any:
        places, dropped = jax.random.split(jax.random.fold_in(key, number))
        images = _moved(places, images)

        def loss(params: Any) -> jax.Array:
            logits, _ = _MODEL.apply({"params": params}, images, train=True, rngs={"dropout": dropped})
            targets = optax.smooth_labels(jax.nn.one_hot(labels, 10), SMOOTHING)
            return optax.softmax_cross_entropy(logits, targets).mean()

        updates, state = optimizer.update(jax.grad(loss)(params), state, params)
        return optax.apply_updates(params, updates), state

    state = optimizer.init(params)
    order = np.random.default_rng(SEED)
    number = 0
    for _ in range(epochs):
        shuffled = order.permutation(len(images))
        for first in range(0, len(images) - BATCH + 1, BATCH):
            rows = shuffled[first : first + BATCH]
            params, state = step(params, state, images[rows], labels[rows], np.int32(number))
            number += 1
    return params


def _moved(key: jax.Array, images: jax.Array) -> jax.Array:
    padded = jnp.pad(images, [(0, 0), (SHIFT, SHIFT), (SHIFT, SHIFT), (0, 0)])
    corners = jax.random.randint(key, (len(images), 2), 0, 2 * SHIFT + 1)
    return jax.vmap(lambda image, at: jax.lax.dynamic_slice(image, (at[0], at[1], 0), _SHAPE))(
        padded, corners
    )


@jax.jit
def _apply(params: Params, images: jax.Array) -> tuple[jax.Array, jax.Array]:
    result: Any = _MODEL.apply({"params": params}, images)
    logits, features = result
    return jnp.argmax(logits, -1), features


def classify(params: Params, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What the classifier sees.

    Args:
      params: of the classifier.
      images: uint8 [N, 28, 28, 1].

    Returns:
      Classes int32 [N], and features float32 [N, 64].
    """
    parts = [_apply(params, images[rows]) for rows in batches(len(images), 250)]
    classes, features = (np.concatenate([np.asarray(part[i]) for part in parts]) for i in range(2))
    return classes[: len(images)], features[: len(images)]


def batches(count: int, size: int) -> list[np.ndarray]:
    """Indices 0 to count - 1 in batches of one size; the last one starts again at 0 to fill up."""
    return list(np.resize(np.arange(count), (-(-count // size), size)))


def frechet_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Frechet distance of the Gaussians fitted to two sets of features (Heusel et al. 2017).

    |m_a - m_b|^2 + tr(A + B - 2 (A B)^(1/2)), where A and B are the unbiased covariances. The trace of the
    root is that of (A^(1/2) B A^(1/2))^(1/2), a symmetric matrix, so that float64 eigenvalues suffice. The
    fewer features, the larger it is: compare distances of as many.

    Args:
      a: [N, D], N at least 2.
      b: [M, D], M at least 2.

    Raises:
      ValueError: other shapes.
    """
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1] or min(len(a), len(b)) < 2:
        raise ValueError(f"expected features [N, D] and [M, D], at least two each, got {a.shape}, {b.shape}")
    a, b = a.astype(np.float64), b.astype(np.float64)
    cov_a, cov_b = (np.atleast_2d(np.cov(x, rowvar=False)) for x in (a, b))
    values, vectors = np.linalg.eigh(cov_a)
    root = (vectors * np.sqrt(values.clip(0.0))) @ vectors.T
    trace_of_root = np.sqrt(np.linalg.eigvalsh(root @ cov_b @ root).clip(0.0)).sum()
    means = np.sum(np.square(a.mean(0) - b.mean(0)))
    return max(0.0, float(means + np.trace(cov_a) + np.trace(cov_b) - 2.0 * trace_of_root))


def fingerprint(params: Params) -> str:
    """Hash of the classifier's weights: figures of different judges are not to be compared."""
    digest = hashlib.sha256()
    for name, value in sorted(_flat(params).items()):
        digest.update(name.encode() + np.ascontiguousarray(value).tobytes())
    return digest.hexdigest()[:16]


def save_classifier(path: Path, params: Params) -> None:
    """Writes the weights to an .npz file."""
    with path.open("wb") as file:
        np.savez(file, **_flat(params))


def load_classifier(path: Path) -> Params:
    """Reads weights that `save_classifier` wrote.

    Raises:
      UserError: the file holds something else.
    """
    shapes = jax.eval_shape(_MODEL.init, jax.random.key(0), jnp.zeros((1, *_SHAPE), jnp.uint8))["params"]
    wanted = {name: (value.shape, value.dtype) for name, value in _flat(shapes).items()}
    try:
        with np.load(path) as file:
            arrays = dict(file)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(f"{path} cannot be read as a classifier: {error}; remove it to train one") from error
    if {name: (value.shape, value.dtype) for name, value in arrays.items()} != wanted:
        raise UserError(f"{path} holds the weights of another network: remove it to train a classifier")
    return traverse_util.unflatten_dict(arrays, sep="/")


def _flat(params: Params) -> dict[str, Any]:
    return traverse_util.flatten_dict(params, sep="/")


def classifier(path: Path | None = None) -> Params:
    """The trained classifier: from the file, or trained now, and kept in the file if one is named."""
    if path is not None and path.exists():
        return load_classifier(path)
    print("training the classifier (a minute or two)", flush=True)
    params = train_classifier(*fashion("train"))
    if path is not None:
        save_classifier(path, params)
    return params


def write_sheet(path: Path, rows: Sequence[np.ndarray], zoom: int = 1, gap: int = 2) -> None:
    """Writes pictures in rows, uint8 [N, H, W, C] each, apart by some white pixels, as a PNG."""
    cells = np.stack(rows).repeat(zoom, 2).repeat(zoom, 3)
    margins = [(0, 0), (0, 0), (0, gap), (0, gap), (0, 0)]
    cells = np.pad(cells, margins, constant_values=255).transpose(0, 2, 1, 3, 4)
    height, width = cells.shape[0] * cells.shape[1], cells.shape[2] * cells.shape[3]
    sheet = cells.reshape(height, width, -1)[:-gap, :-gap]
    Image.fromarray(sheet[..., 0] if sheet.shape[-1] == 1 else sheet).save(path, optimize=True)


def machine() -> dict[str, Any]:
    """What the figures were measured with."""
    return {
        "device": f"{jax.devices()[0].device_kind}, {platform.machine()}",
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "jax": jax.__version__,
    }
