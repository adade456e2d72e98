"""Autoregressive prior over the codes of vqgan-fashion: new Fashion-MNIST pictures by class.

Command:   vq-jax train prior-fashion-gpt
           after vq-jax train vqgan-fashion; for a tokenizer elsewhere, give --tokenizer RUN
           vq-jax sample runs/prior-fashion-gpt --num 80 -o samples.png
Hardware:  2 CPU cores
Run time:  about 4 minutes
Expected:  F-FID 1.84 and the requested class in 88 % of samples
           (experiments/benchmarks/fashion_generation.py)
"""

from vq_jax.configs import (
    GPTArchitecture,
    OptimizerConfig,
    PriorConfig,
    PriorDataConfig,
    SamplingOptions,
    TrainingConfig,
)

config = PriorConfig(
    name="prior-fashion-gpt",
    tokenizer="runs/vqgan-fashion",
    prior=GPTArchitecture(width=192, num_layers=4, num_heads=4, dropout=0.1, token_dropout=0.0),
    data=PriorDataConfig(batch_size=64, flip=False),  # shoes all point one way
    optimizer=OptimizerConfig(
        name="adamw", learning_rate=2e-3, b2=0.98, weight_decay=0.03, schedule="cosine", warmup_steps=50
    ),
    training=TrainingConfig(
        steps=930, ema_decay=0.99, log_every=25, eval_every=155, image_every=465, save_every=465
    ),
    sampling=SamplingOptions(guidance=1.5),
)
