"""Figures of merit: distances between pictures, and evaluators of models on held-out sets."""

from vq_jax.evaluate.code_distance import CodeDistance
from vq_jax.evaluate.code_usage import CodeUsage, code_suffixes
from vq_jax.evaluate.distances import mean_squared_error, picture_psnr, psnr, psnr_from_mse, ssim
from vq_jax.evaluate.evaluators import (
    DEFAULT_EVALUATORS,
    EVALUATORS,
    OF_PAIRS,
    Evaluation,
    Evaluator,
    Setup,
    evaluate,
    evaluation_step,
    make_evaluators,
    pair_step,
    reconstruction_step,
    sums,
)
from vq_jax.evaluate.feature_sets import FeatureSet, Statistics, empty_set
from vq_jax.evaluate.flicker import Flicker, temporal_flicker
from vq_jax.evaluate.frechet import frechet_distance
from vq_jax.evaluate.kernel_distance import kernel_distance
from vq_jax.evaluate.likelihood import Likelihood
from vq_jax.evaluate.manifolds import density_coverage, precision_recall
from vq_jax.evaluate.perceptual import LPIPS_SMALLEST, Perceptual, lpips
from vq_jax.evaluate.positions import find_positions, position_accuracy
from vq_jax.evaluate.rate import Rate
from vq_jax.evaluate.reconstruction import Reconstruction, ReconstructionSums
from vq_jax.evaluate.restoration import Restoration, restoration_evaluators, restoration_step
from vq_jax.evaluate.robustness import Robustness, robustness_step
from vq_jax.evaluate.set_metrics import (
    SET_METRICS,
    ChosenMetric,
    Extractor,
    SetMetric,
    choose_set_metrics,
    frame_differences,
    is_set_metric,
    set_figures,
    worth,
)
from vq_jax.evaluate.structural_similarity import StructuralSimilarity, picture_ssim

__all__ = [
    "DEFAULT_EVALUATORS",
    "EVALUATORS",
    "LPIPS_SMALLEST",
    "OF_PAIRS",
    "SET_METRICS",
    "ChosenMetric",
    "CodeDistance",
    "CodeUsage",
    "Evaluation",
    "Evaluator",
    "Extractor",
    "FeatureSet",
    "Flicker",
    "Likelihood",
    "Perceptual",
    "Rate",
    "Reconstruction",
    "ReconstructionSums",
    "Restoration",
    "Robustness",
    "SetMetric",
    "Setup",
    "Statistics",
    "StructuralSimilarity",
    "choose_set_metrics",
    "code_suffixes",
    "density_coverage",
    "empty_set",
    "evaluate",
    "evaluation_step",
    "find_positions",
    "frame_differences",
    "frechet_distance",
    "is_set_metric",
    "kernel_distance",
    "lpips",
    "make_evaluators",
    "mean_squared_error",
    "pair_step",
    "picture_psnr",
    "picture_ssim",
    "position_accuracy",
    "precision_recall",
    "psnr",
    "psnr_from_mse",
    "reconstruction_step",
    "restoration_evaluators",
    "restoration_step",
    "robustness_step",
    "set_figures",
    "ssim",
    "sums",
    "temporal_flicker",
    "worth",
]
