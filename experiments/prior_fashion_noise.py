"""Noise generator over the codes of vqgan-fashion: new Fashion-MNIST pictures by class, in one pass.

Command:   vq-jax train prior-fashion-noise
           after vq-jax train vqgan-fashion; for a tokenizer elsewhere, give --tokenizer RUN
           vq-jax sample runs/prior-fashion-noise --num 80 -o samples.png
Hardware:  2 CPU cores
Run time:  about 4.5 minutes
Expected:  F-FID 6.48 and the requested class in 76 % of samples
           (experiments/benchmarks/fashion_generation.py)
"""

from vq_jax.configs import (
    DiscriminatorConfig,
    Losses,
    NoiseArchitecture,
    NoiseConfig,
    OptimizerConfig,
    PriorDataConfig,
    TrainingConfig,
)

config = NoiseConfig(
    name="prior-fashion-noise",
    tokenizer="runs/vqgan-fashion",
    prior=NoiseArchitecture(noise_dim=100, width=64, num_blocks=2),
    data=PriorDataConfig(batch_size=64, flip=False),  # shoes all point one way
    losses=Losses(
        adversarial_weight=1.0, adaptive=False, adversarial="non_saturating", r1_weight=0.2, r1_every=4
    ),
    optimizer=OptimizerConfig(learning_rate=2e-4, b1=0.5, b2=0.99),
    discriminator=DiscriminatorConfig(
        channels=32,
        num_layers=2,
        norm="none",
        optimizer=OptimizerConfig(learning_rate=4e-4, b1=0.5, b2=0.99),
    ),
    training=TrainingConfig(
        steps=1700, ema_decay=0.995, log_every=50, eval_every=425, image_every=850, save_every=850
    ),
)
