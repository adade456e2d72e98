"""Ten thousand Fashion-MNIST pictures, embedded in the package.

They are the first 1,000 of each class of the official training set, in its order, so that the
official test set stays unseen. Fashion-MNIST is under the MIT licence, (c) Zalando SE; the text of the
licence is beside this file.

References:
  Xiao, Rasul, Vollgraf (2017), "Fashion-MNIST: a novel image dataset for benchmarking machine
  learning algorithms", arXiv:1708.07747.
"""

import importlib.resources

import numpy as np

from vq_jax.configs.data import DataConfig
from vq_jax.data.in_memory import MemorySource
from vq_jax.data.source import Split, check_channels

_CLASSES = (
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)
_TRAIN_OF_CLASS = 800  # of 1,000


def open_fashion(argument: str, split: Split, config: DataConfig, channels: int) -> MemorySource:
    """Reads 8,000 pictures for training, or the 2,000 held out, as many of each class.

    Args:
      argument: not used; empty.
      split: train or test.
      config: not used.
      channels: must be 1.

    Returns:
      The source: uint8 [28, 28, 1] pictures, labels 0 to 9.

    Raises:
      UserError: `channels` is not 1.
    """
    check_channels(1, channels, "fashion")
    file = importlib.resources.files("vq_jax.data") / "fashion_mnist_10k.npz"
    with file.open("rb") as stream, np.load(stream) as arrays:
        images, labels = arrays["images"], arrays["labels"]
    is_train = np.zeros(len(labels), bool)
    for label in range(len(_CLASSES)):
        is_train[np.flatnonzero(labels == label)[:_TRAIN_OF_CLASS]] = True
    chosen = is_train if split == "train" else ~is_train
    return MemorySource(images[chosen][..., None], labels[chosen], len(_CLASSES), _CLASSES)
