"""Samplers: new grids of codes from priors."""

from vq_jax.generate.autoregressive import (
    Step,
    sample_autoregressive,
    sample_gpt,
    sample_pixelcnn,
    uncached_step,
)
from vq_jax.generate.masked import ORDERS, MaskedOptions, sample_masked, sample_maskgit
from vq_jax.generate.noise import sample_noise
from vq_jax.generate.options import SamplingOptions
from vq_jax.generate.prior import fill_codes, sample_prior

__all__ = [
    "MaskedOptions",
    "ORDERS",
    "SamplingOptions",
    "Step",
    "fill_codes",
    "sample_autoregressive",
    "sample_gpt",
    "sample_masked",
    "sample_maskgit",
    "sample_noise",
    "sample_pixelcnn",
    "sample_prior",
    "uncached_step",
]
