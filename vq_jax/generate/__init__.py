"""Samplers: new grids of codes from priors."""

from vq_jax.generate.autoregressive import Step, sample_autoregressive, sample_gpt, uncached_step
from vq_jax.generate.masked import ORDERS, MaskedOptions, sample_masked, sample_maskgit
from vq_jax.generate.options import SamplingOptions

__all__ = [
    "MaskedOptions",
    "ORDERS",
    "SamplingOptions",
    "Step",
    "sample_autoregressive",
    "sample_gpt",
    "sample_masked",
    "sample_maskgit",
    "uncached_step",
]
