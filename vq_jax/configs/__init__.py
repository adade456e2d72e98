"""Frozen dataclasses that describe a run and all its parts. They import jax only to build something."""

from vq_jax.configs.data import CodesConfig, ColourConfig, DataConfig, PriorDataConfig
from vq_jax.configs.discriminators import DiscriminatorConfig
from vq_jax.configs.grid_quantizers import BSQConfig, FSQConfig, LFQConfig, ResidualFSQConfig
from vq_jax.configs.losses import Losses
from vq_jax.configs.models import (
    MLPVQVAE,
    VQGAN,
    Architecture,
    LlamaGenVQ16,
    MaskGITVQGAN,
    OpenMAGVIT2,
    PatchVQVAE,
    ResidualVQVAE,
    VQGANf4,
    VQGANf8,
    VQGANf16,
)
from vq_jax.configs.optimizers import OptimizerConfig
from vq_jax.configs.priors import (
    GPTArchitecture,
    MaskGITArchitecture,
    NoiseArchitecture,
    PixelCNNArchitecture,
    PriorArchitecture,
    TransformerArchitecture,
)
from vq_jax.configs.quantizer_base import QuantizerConfig
from vq_jax.configs.quantizers import (
    GroupedQuantizerConfig,
    GumbelQuantizerConfig,
    IBQConfig,
    MultiScaleQuantizerConfig,
    RandomProjectionQuantizerConfig,
    ResidualQuantizerConfig,
    SimVQConfig,
    VectorQuantizerConfig,
    VectorQuantizerEMAConfig,
)
from vq_jax.configs.runs import ExperimentConfig, NoiseConfig, PriorConfig, RunConfig
from vq_jax.configs.sampling import MaskedOptions, NoiseOptions, SamplingOptions
from vq_jax.configs.training import Phase, TrainingConfig

__all__ = [
    "Architecture",
    "BSQConfig",
    "CodesConfig",
    "ColourConfig",
    "DataConfig",
    "DiscriminatorConfig",
    "ExperimentConfig",
    "FSQConfig",
    "GPTArchitecture",
    "GroupedQuantizerConfig",
    "GumbelQuantizerConfig",
    "IBQConfig",
    "LFQConfig",
    "LlamaGenVQ16",
    "Losses",
    "MLPVQVAE",
    "MaskGITArchitecture",
    "MaskGITVQGAN",
    "MaskedOptions",
    "MultiScaleQuantizerConfig",
    "NoiseArchitecture",
    "NoiseConfig",
    "NoiseOptions",
    "OpenMAGVIT2",
    "OptimizerConfig",
    "PatchVQVAE",
    "Phase",
    "PixelCNNArchitecture",
    "PriorArchitecture",
    "PriorConfig",
    "PriorDataConfig",
    "QuantizerConfig",
    "RandomProjectionQuantizerConfig",
    "ResidualFSQConfig",
    "ResidualQuantizerConfig",
    "ResidualVQVAE",
    "RunConfig",
    "SamplingOptions",
    "SimVQConfig",
    "TrainingConfig",
    "TransformerArchitecture",
    "VQGAN",
    "VQGANf16",
    "VQGANf4",
    "VQGANf8",
    "VectorQuantizerConfig",
    "VectorQuantizerEMAConfig",
]
