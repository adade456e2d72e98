"""Masked prior over the codes of vqgan-moving-fashion: new clips, and the frames that follow given ones.

Command:   vq-jax train prior-moving-fashion
           after vq-jax train vqgan-moving-fashion; for a tokenizer elsewhere, give --tokenizer RUN
           vq-jax sample runs/prior-moving-fashion -o samples.gif
Hardware:  2 CPU cores
Run time:  31 minutes of CPU time, about 16 on two quiet cores
Expected:  a start, no more: 2.9 bits a code on held-out clips; the frames that follow are blobs, at first
           about where the pictures are, and not within 2 px of them
           (experiments/benchmarks/video_prediction.py)
"""

from vq_jax.configs import (
    CodesConfig,
    MaskedOptions,
    MaskGITArchitecture,
    OptimizerConfig,
    PriorConfig,
    PriorDataConfig,
    TrainingConfig,
)

config = PriorConfig(
    name="prior-moving-fashion",
    tokenizer="runs/vqgan-moving-fashion",
    prior=MaskGITArchitecture(
        width=160,
        num_layers=5,
        num_heads=4,
        dropout=0.0,
        token_dropout=0.0,
        tokens="positions",
        tasks=("prediction", "prediction", "prediction", "generation", "interpolation", "inpainting"),
        neighbours=True,
    ),
    data=PriorDataConfig(batch_size=8, test_limit=64),
    codes=CodesConfig(mode="fly"),  # the source has a million clips, and few steps see them
    optimizer=OptimizerConfig(
        name="adamw", learning_rate=2e-3, b2=0.98, weight_decay=0.03, schedule="cosine", warmup_steps=50
    ),
    training=TrainingConfig(
        steps=1600, ema_decay=0.99, log_every=25, eval_every=400, image_every=400, save_every=400
    ),
    sampling=MaskedOptions(steps=16),
)
