"""Priors: networks that say how likely codes are, from which new grids are drawn."""

from vq_jax.nn.priors.base import Condition, TransformerPrior
from vq_jax.nn.priors.gpt import GPT, GPTWeights
from vq_jax.nn.priors.maskgit import MaskGIT

__all__ = ["Condition", "GPT", "GPTWeights", "MaskGIT", "TransformerPrior"]
