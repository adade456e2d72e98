"""vq_jax: discrete codes for pictures in JAX.

Public names are imported on first use, so that `import vq_jax` stays light.
"""

import importlib
import importlib.metadata
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vq_jax import configs, data, evaluate, generate, nn, ops, train
    from vq_jax.configs.presets import load_preset
    from vq_jax.pretrained.build import create_model
    from vq_jax.pretrained.chunks import VideoChunks
    from vq_jax.pretrained.codebooks import renumber
    from vq_jax.pretrained.load import load, load_prior, load_restorer
    from vq_jax.pretrained.load_tokenizer import load_tokenizer
    from vq_jax.pretrained.prior import Prior
    from vq_jax.pretrained.restorer import Restorer
    from vq_jax.pretrained.tokenizer import Tokenizer
    from vq_jax.pretrained.upload import push
    from vq_jax.runs.rundir import read_metrics
    from vq_jax.train.loop import train as fit

_MODULES = ("configs", "data", "evaluate", "generate", "nn", "ops", "train")
_NAMES = {
    "Prior": "vq_jax.pretrained.prior:Prior",
    "Restorer": "vq_jax.pretrained.restorer:Restorer",
    "Tokenizer": "vq_jax.pretrained.tokenizer:Tokenizer",
    "VideoChunks": "vq_jax.pretrained.chunks:VideoChunks",
    "create_model": "vq_jax.pretrained.build:create_model",
    "fit": "vq_jax.train.loop:train",
    "load": "vq_jax.pretrained.load:load",
    "load_prior": "vq_jax.pretrained.load:load_prior",
    "load_restorer": "vq_jax.pretrained.load:load_restorer",
    "load_tokenizer": "vq_jax.pretrained.load_tokenizer:load_tokenizer",
    "load_preset": "vq_jax.configs.presets:load_preset",
    "push": "vq_jax.pretrained.upload:push",
    "renumber": "vq_jax.pretrained.codebooks:renumber",
    "read_metrics": "vq_jax.runs.rundir:read_metrics",
}

__all__ = [
    "Prior",
    "Restorer",
    "Tokenizer",
    "VideoChunks",
    "__version__",
    "configs",
    "create_model",
    "data",
    "evaluate",
    "fit",
    "generate",
    "load",
    "load_preset",
    "load_prior",
    "load_restorer",
    "load_tokenizer",
    "nn",
    "ops",
    "push",
    "read_metrics",
    "renumber",
    "train",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"vq_jax.{name}")
    if name in _NAMES:
        module, _, attribute = _NAMES[name].partition(":")
        return getattr(importlib.import_module(module), attribute)
    if name == "__version__":
        return importlib.metadata.version("vq-jax")
    raise AttributeError(f"module 'vq_jax' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
