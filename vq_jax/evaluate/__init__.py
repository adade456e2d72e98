"""Figures of merit: distances between pictures, and the evaluation of a model on a test set."""

from vq_jax.evaluate.evaluation import EvaluationSums, evaluate, evaluation_step
from vq_jax.evaluate.metrics import mean_squared_error, psnr, psnr_from_mse, ssim

__all__ = [
    "EvaluationSums",
    "evaluate",
    "evaluation_step",
    "mean_squared_error",
    "psnr",
    "psnr_from_mse",
    "ssim",
]
