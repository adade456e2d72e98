"""Figures of merit: distances between pictures, and the evaluation of a model on a test set."""

from vq_jax.evaluate.evaluation import EvaluationSums, evaluate, evaluation_step
from vq_jax.evaluate.metrics import LPIPS_SMALLEST, lpips, mean_squared_error, psnr, psnr_from_mse, ssim

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
