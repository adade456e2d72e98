"""Masked prior over the codes of vqgan-photos: new crops of 64 px, holes filled.

There are ten photographs only: it knows textures and edges, not things.

Command:   vq-jax train prior-photos
           after vq-jax train vqgan-photos; --tokenizer RUN for a tokenizer in another place
           vq-jax inpaint runs/prior-photos PICTURE --box X0,Y0,X1,Y1 -o filled.png
Hardware:  2 CPU cores
"""

from vq_jax.config import OptimizerConfig, TrainingConfig
from vq_jax.prior_architectures import MaskGITArchitecture
from vq_jax.prior_config import CodesConfig, PriorConfig, PriorDataConfig, SamplingConfig

config = PriorConfig(
    name="prior-photos",
    tokenizer="runs/vqgan-photos",
    prior=MaskGITArchitecture(width=192, num_layers=4, num_heads=4, dropout=0.1, token_dropout=0.0),
    data=PriorDataConfig(batch_size=16),
    codes=CodesConfig(variants=4),
    optimizer=OptimizerConfig(
        name="adamw", learning_rate=1e-3, b2=0.98, weight_decay=0.03, schedule="cosine", warmup_steps=50
    ),
    training=TrainingConfig(
        steps=800, ema_decay=0.99, log_every=25, eval_every=100, image_every=400, save_every=400
    ),
    sampling=SamplingConfig(temperature=0.9, noise=4.0),
)
