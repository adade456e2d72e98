"""Priors: models of the distribution of codes, from which new codes are sampled."""

from vq_jax.nn.priors.base import Condition, LabelledPrior, TransformerPrior
from vq_jax.nn.priors.gpt import GPT, GPTWeights
from vq_jax.nn.priors.masked_cnn import MaskedCNN
from vq_jax.nn.priors.maskgit import MaskGIT
from vq_jax.nn.priors.next_frame import NextFrameCNN, Past
from vq_jax.nn.priors.noise import NoiseGenerator
from vq_jax.nn.priors.pixelcnn import PixelCNN
from vq_jax.nn.priors.post_norm import PostNormMaskGIT

__all__ = [
    "Condition",
    "GPT",
    "GPTWeights",
    "LabelledPrior",
    "MaskGIT",
    "MaskedCNN",
    "NextFrameCNN",
    "NoiseGenerator",
    "Past",
    "PixelCNN",
    "PostNormMaskGIT",
    "TransformerPrior",
]
