"""Linen modules: encoders, decoders, quantizers and the model that joins them."""

from vq_jax.nn.blocks import Conv, DoubleConvTranspose, GroupNorm, UpsampleConv
from vq_jax.nn.cnn import CNNDecoder, CNNEncoder
from vq_jax.nn.discriminators import MLPDiscriminator, PatchDiscriminator, StyleGANDiscriminator
from vq_jax.nn.maskgit_cnn import MaskGITDecoder, MaskGITEncoder
from vq_jax.nn.mlp import MLPDecoder, MLPEncoder
from vq_jax.nn.model import VQModel, VQOutput
from vq_jax.nn.perceptual import LPIPS
from vq_jax.nn.perceptual_weights import load_lpips
from vq_jax.nn.priors import GPT, Condition, MaskGIT, NoiseGenerator, PixelCNN
from vq_jax.nn.quantizers import (
    CodebookQuantizer,
    QuantizerOutput,
    Revival,
    VectorQuantizer,
    VectorQuantizerEMA,
)
from vq_jax.nn.residual import ResidualDecoder, ResidualEncoder

__all__ = [
    "CNNDecoder",
    "CNNEncoder",
    "CodebookQuantizer",
    "Condition",
    "Conv",
    "DoubleConvTranspose",
    "GPT",
    "GroupNorm",
    "LPIPS",
    "MLPDecoder",
    "MLPDiscriminator",
    "MLPEncoder",
    "MaskGIT",
    "MaskGITDecoder",
    "MaskGITEncoder",
    "NoiseGenerator",
    "PatchDiscriminator",
    "PixelCNN",
    "QuantizerOutput",
    "ResidualDecoder",
    "ResidualEncoder",
    "Revival",
    "StyleGANDiscriminator",
    "UpsampleConv",
    "VQModel",
    "VQOutput",
    "VectorQuantizer",
    "VectorQuantizerEMA",
    "load_lpips",
]
