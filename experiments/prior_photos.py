"""Masked prior over the codes of vqgan-photos: samples 64-px crops and fills holes in pictures.

It is trained on ten photographs only, so it learns textures and edges but not objects.

Command:   vq-jax train prior-photos
           after vq-jax train vqgan-photos; for a tokenizer elsewhere, give --tokenizer RUN
           vq-jax inpaint runs/prior-photos PICTURE --box X0,Y0,X1,Y1 -o filled.png
Hardware:  2 CPU cores
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
    name="prior-photos",
    tokenizer="runs/vqgan-photos",
    prior=MaskGITArchitecture(
        width=128, num_layers=3, num_heads=4, dropout=0.0, token_dropout=0.0, mask_schedule="linear"
    ),
    data=PriorDataConfig(batch_size=32),
    codes=CodesConfig(variants=4),
    optimizer=OptimizerConfig(
        name="adamw", learning_rate=3e-3, b2=0.98, weight_decay=0.03, schedule="cosine", warmup_steps=50
    ),
    training=TrainingConfig(
        steps=1500, ema_decay=0.99, log_every=25, eval_every=250, image_every=750, save_every=750
    ),
    sampling=MaskedOptions(temperature=0.9, noise=4.0),
)
