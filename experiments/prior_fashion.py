"""Masked prior over the codes of vqgan-fashion: new Fashion-MNIST pictures by class.

Command:   vq-jax train prior-fashion
           after vq-jax train vqgan-fashion; for a tokenizer elsewhere, give --tokenizer RUN
           vq-jax sample runs/prior-fashion --num 80 -o samples.png
Hardware:  2 CPU cores
Run time:  about 4 minutes
Expected:  F-FID 2.90 and the requested class in 94 % of samples
           (experiments/benchmarks/fashion_generation.py)
"""

from vq_jax.configs import (
    MaskedOptions,
    MaskGITArchitecture,
    OptimizerConfig,
    PriorConfig,
    PriorDataConfig,
    TrainingConfig,
)

config = PriorConfig(
    name="prior-fashion",
    tokenizer="runs/vqgan-fashion",
    prior=MaskGITArchitecture(width=192, num_layers=4, num_heads=4, dropout=0.0, token_dropout=0.0),
    data=PriorDataConfig(batch_size=64, flip=False),  # shoes all point one way
    optimizer=OptimizerConfig(
        name="adamw", learning_rate=2e-3, b2=0.98, weight_decay=0.03, schedule="cosine", warmup_steps=50
    ),
    training=TrainingConfig(
        steps=1200, ema_decay=0.99, log_every=25, eval_every=200, image_every=600, save_every=600
    ),
    sampling=MaskedOptions(guidance=3.0, guidance_schedule="linear", noise=4.0),
)
