"""Pictures: sources (one file each), examples made of their records, and batches of those.

Names are imported when they are first used: reading a source imports only what that source needs.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vq_jax.data.examples import Example, ExampleBuilder, RecordRng
    from vq_jax.data.held_out import all_test_batches, test_batches, test_pictures
    from vq_jax.data.masks import read_mask
    from vq_jax.data.open import SCHEMES, Scheme, open_source, open_splits
    from vq_jax.data.pictures import Reading, read_picture
    from vq_jax.data.pipeline import BatchIterator, Order, train_batches
    from vq_jax.data.source import Batch, Record, Source, class_names
    from vq_jax.data.tfds import prepare
    from vq_jax.data.variants import Variants

_NAMES = {
    "Batch": "source",
    "BatchIterator": "pipeline",
    "Example": "examples",
    "ExampleBuilder": "examples",
    "Order": "pipeline",
    "Reading": "pictures",
    "Record": "source",
    "RecordRng": "examples",
    "SCHEMES": "open",
    "Scheme": "open",
    "Source": "source",
    "Variants": "variants",
    "class_names": "source",
    "open_source": "open",
    "open_splits": "open",
    "prepare": "tfds",
    "read_mask": "masks",
    "read_picture": "pictures",
    "all_test_batches": "held_out",
    "test_batches": "held_out",
    "test_pictures": "held_out",
    "train_batches": "pipeline",
}

__all__ = [
    "Batch",
    "BatchIterator",
    "Example",
    "ExampleBuilder",
    "Order",
    "Reading",
    "Record",
    "RecordRng",
    "SCHEMES",
    "Scheme",
    "Source",
    "Variants",
    "all_test_batches",
    "class_names",
    "open_source",
    "open_splits",
    "prepare",
    "read_mask",
    "read_picture",
    "test_batches",
    "test_pictures",
    "train_batches",
]


def __getattr__(name: str) -> Any:
    if name not in _NAMES:
        raise AttributeError(f"module 'vq_jax.data' has no attribute {name!r}")
    return getattr(importlib.import_module(f"vq_jax.data.{_NAMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
