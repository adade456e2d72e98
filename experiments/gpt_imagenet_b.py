"""LlamaGen's GPT-B (Sun et al. 2024, arXiv:2406.06525) on ImageNet at 256 px: 111 million parameters.

12 layers of width 768 over 16x16 codes out of 16384, in raster order; 300 epochs.

Differences: a learned position embedding in addition to the rotary one; training codes come from five random
crops of each picture and their mirror images, not from the four corners and the center.

Command:   vq-jax train llamagen-imagenet, then
           vq-jax train gpt-imagenet-b
           vq-jax sample runs/gpt-imagenet-b --label 207 -o samples.png
Hardware:  8 GPUs of 40 GB or a TPU slice; with fewer, split the batch by --training.accumulate
Expected:  the authors report FID 5.46 with guidance 2.0 and 50,000 samples in the README of
           LlamaGen; not run here
"""

from vq_jax.configs import (
    CodesConfig,
    GPTArchitecture,
    OptimizerConfig,
    PriorConfig,
    PriorDataConfig,
    SamplingOptions,
    TrainingConfig,
)

config = PriorConfig(
    name="gpt-imagenet-b",
    tokenizer="runs/llamagen-imagenet",
    prior=GPTArchitecture(width=768, num_layers=12, num_heads=12, dropout=0.1, token_dropout=0.1),
    data=PriorDataConfig(batch_size=256, num_workers=16),
    codes=CodesConfig(variants=10),
    optimizer=OptimizerConfig(
        name="adamw", learning_rate=1e-4, b1=0.9, b2=0.95, weight_decay=0.05, clip_norm=1.0
    ),
    training=TrainingConfig(
        steps=1_500_000,  # 300 epochs
        ema_decay=0.9999,
        log_every=100,
        eval_every=10_000,
        image_every=10_000,
        save_every=10_000,
    ),
    sampling=SamplingOptions(guidance=2.0),
)
