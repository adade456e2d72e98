"""Samplers: new codes from priors, each registered beside the prior that it draws from."""

from vq_jax.configs.sampling import MaskedOptions, NoiseOptions, Options, SamplingOptions
from vq_jax.generate.autoregressive import (
    Step,
    sample_autoregressive,
    sample_gpt,
    sample_pixelcnn,
    uncached_step,
)
from vq_jax.generate.masked import sample_masked, sample_maskgit
from vq_jax.generate.next_frames import continue_frames, sample_frames
from vq_jax.generate.noise import sample_noise
from vq_jax.generate.options import TracedOptions, trace_options
from vq_jax.generate.samplers import SAMPLERS, Sampler, adapt_options, fill_codes, sample_prior, sampler_of

__all__ = [
    "MaskedOptions",
    "NoiseOptions",
    "Options",
    "SAMPLERS",
    "Sampler",
    "SamplingOptions",
    "Step",
    "TracedOptions",
    "adapt_options",
    "continue_frames",
    "fill_codes",
    "sample_autoregressive",
    "sample_frames",
    "sample_gpt",
    "sample_masked",
    "sample_maskgit",
    "sample_noise",
    "sample_pixelcnn",
    "sample_prior",
    "sampler_of",
    "trace_options",
    "uncached_step",
]
