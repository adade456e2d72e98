"""MaskGIT (Chang et al. 2022, arXiv:2202.04200) on ImageNet at 256 px: 16x16 codes out of 1024.

24 layers of width 768 and 172 million parameters, like the original; the authors' optimizer, mask schedule
and label smoothing.

Differences: layers are pre-normalised, with gated feed-forward layers (of width 2048, instead of 3072 without
a gate) and rotary positions; a tenth of the labels is dropped, so that guidance is possible; training codes
come from five random crops of each picture and their mirror images.

Command:   vq-jax train maskgit-imagenet-tokenizer, then
           vq-jax train maskgit-imagenet
           vq-jax sample runs/maskgit-imagenet --label 207 -o samples.png
Hardware:  a TPU slice of 16 chips or 8 GPUs of 40 GB; with fewer, split the batch by --training.accumulate
Expected:  the authors report FID 6.18 in the paper and 6.06 in the README of maskgit, for 50,000 samples of
           8 to 12 steps without guidance; not run here
"""

from vq_jax.configs import (
    CodesConfig,
    MaskGITArchitecture,
    OptimizerConfig,
    PriorConfig,
    PriorDataConfig,
    TrainingConfig,
)

config = PriorConfig(
    name="maskgit-imagenet",
    tokenizer="runs/maskgit-imagenet-tokenizer",
    prior=MaskGITArchitecture(
        width=768,
        num_layers=24,
        num_heads=16,
        mlp_features=2048,
        dropout=0.1,
        token_dropout=0.0,
        label_smoothing=0.1,
        remat=True,
    ),
    data=PriorDataConfig(batch_size=256, num_workers=16),
    codes=CodesConfig(variants=10),
    optimizer=OptimizerConfig(
        name="adamw", learning_rate=1e-4, b1=0.9, b2=0.96, weight_decay=0.045, warmup_steps=5000
    ),
    training=TrainingConfig(
        steps=2_000_000,
        ema_decay=0.9999,
        log_every=100,
        eval_every=10_000,
        image_every=10_000,
        save_every=10_000,
    ),
)
