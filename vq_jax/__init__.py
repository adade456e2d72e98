"""vq_jax: discrete codes for pictures in JAX.

Public names are imported when they are first used, so that `import vq_jax` stays light.
"""

import importlib
import importlib.metadata
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vq_jax import data, evaluate, generate, nn, ops, train
    from vq_jax.pretrained.load import create_model, load
    from vq_jax.pretrained.prior import Prior
    from vq_jax.pretrained.tokenizer import Tokenizer

_MODULES = ("data", "evaluate", "generate", "nn", "ops", "train")
_NAMES = {
    "Prior": "vq_jax.pretrained.prior",
    "Tokenizer": "vq_jax.pretrained.tokenizer",
    "create_model": "vq_jax.pretrained.load",
    "load": "vq_jax.pretrained.load",
}

__all__ = [
    "Prior",
    "Tokenizer",
    "__version__",
    "create_model",
    "data",
    "evaluate",
    "generate",
    "load",
    "nn",
    "ops",
    "train",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"vq_jax.{name}")
    if name in _NAMES:
        return getattr(importlib.import_module(_NAMES[name]), name)
    if name == "__version__":
        return importlib.metadata.version("vq-jax")
    raise AttributeError(f"module 'vq_jax' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
