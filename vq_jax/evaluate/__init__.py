"""Figures of merit: distances between pictures, and the evaluation of a model on a test set."""

from vq_jax.evaluate.distances import LPIPS_SMALLEST, lpips, mean_squared_error, psnr, psnr_from_mse, ssim
from vq_jax.evaluate.evaluators import EvaluationSums, evaluate, evaluation_step

__all__ = [
    "LPIPS_SMALLEST",
    "EvaluationSums",
    "evaluate",
    "evaluation_step",
    "lpips",
    "mean_squared_error",
    "psnr",
    "psnr_from_mse",
    "ssim",
]
