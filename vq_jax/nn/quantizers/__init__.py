"""Quantizers: latents [B, *S, D] to codes and back."""

from vq_jax.nn.quantizers.base import CodebookQuantizer, QuantizerOutput, Revival
from vq_jax.nn.quantizers.fsq import FSQ
from vq_jax.nn.quantizers.grouped import GroupedQuantizer
from vq_jax.nn.quantizers.gumbel import GumbelQuantizer
from vq_jax.nn.quantizers.ibq import IBQ
from vq_jax.nn.quantizers.lfq import LFQ
from vq_jax.nn.quantizers.motion import MotionQuantizer
from vq_jax.nn.quantizers.multi_scale import MultiScaleQuantizer
from vq_jax.nn.quantizers.random_projection import RandomProjectionQuantizer
from vq_jax.nn.quantizers.residual import ResidualQuantizer
from vq_jax.nn.quantizers.residual_fsq import ResidualFSQ
from vq_jax.nn.quantizers.sim_vq import SimVQ
from vq_jax.nn.quantizers.vector import VectorQuantizer
from vq_jax.nn.quantizers.vector_ema import VectorQuantizerEMA

__all__ = [
    "FSQ",
    "LFQ",
    "CodebookQuantizer",
    "GroupedQuantizer",
    "IBQ",
    "GumbelQuantizer",
    "MotionQuantizer",
    "MultiScaleQuantizer",
    "QuantizerOutput",
    "RandomProjectionQuantizer",
    "ResidualFSQ",
    "ResidualQuantizer",
    "Revival",
    "SimVQ",
    "VectorQuantizer",
    "VectorQuantizerEMA",
]
