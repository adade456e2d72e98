"""Figures of merit: distances between pictures, and evaluators of models on held-out sets."""

from vq_jax.evaluate.code_distance import CodeDistance
from vq_jax.evaluate.code_usage import CodeUsage, code_suffixes
from vq_jax.evaluate.distances import mean_squared_error, picture_psnr, psnr, psnr_from_mse, ssim
from vq_jax.evaluate.evaluators import (
    DEFAULT_EVALUATORS,
    EVALUATORS,
    Evaluation,
    Evaluator,
    Setup,
    evaluate,
    evaluation_step,
    make_evaluators,
    sums,
)
from vq_jax.evaluate.flicker import Flicker, temporal_flicker
from vq_jax.evaluate.likelihood import Likelihood
from vq_jax.evaluate.perceptual import LPIPS_SMALLEST, Perceptual, lpips
from vq_jax.evaluate.positions import find_positions, position_accuracy
from vq_jax.evaluate.reconstruction import Reconstruction, ReconstructionSums
from vq_jax.evaluate.restoration import Restoration, restoration_evaluators, restoration_step

__all__ = [
    "DEFAULT_EVALUATORS",
    "EVALUATORS",
    "LPIPS_SMALLEST",
    "CodeDistance",
    "CodeUsage",
    "Evaluation",
    "Evaluator",
    "Flicker",
    "Likelihood",
    "Perceptual",
    "Reconstruction",
    "ReconstructionSums",
    "Restoration",
    "Setup",
    "code_suffixes",
    "evaluate",
    "evaluation_step",
    "find_positions",
    "lpips",
    "make_evaluators",
    "mean_squared_error",
    "picture_psnr",
    "position_accuracy",
    "psnr",
    "psnr_from_mse",
    "restoration_evaluators",
    "restoration_step",
    "ssim",
    "sums",
    "temporal_flicker",
]
