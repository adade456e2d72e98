"""Linen modules: encoders, decoders, quantizers and the model that joins them."""

from vq_jax.nn.blocks import DoubleConvTranspose
from vq_jax.nn.mlp import MLPDecoder, MLPEncoder
from vq_jax.nn.model import VQModel, VQOutput
from vq_jax.nn.quantizers import (
    CodebookQuantizer,
    QuantizerOutput,
    Revival,
    VectorQuantizer,
    VectorQuantizerEMA,
)
from vq_jax.nn.residual import ResidualDecoder, ResidualEncoder

__all__ = [
    "CodebookQuantizer",
    "DoubleConvTranspose",
    "MLPDecoder",
    "MLPEncoder",
    "QuantizerOutput",
    "ResidualDecoder",
    "ResidualEncoder",
    "Revival",
    "VQModel",
    "VQOutput",
    "VectorQuantizer",
    "VectorQuantizerEMA",
]
