"""VQ-GAN on the photographs that come with scikit-image, 64-px crops.

A picture becomes a code for every 4x4 pixels, of 512.

Command:   vq-jax train vqgan-photos
Hardware:  2 CPU cores
"""

from vq_jax.architectures import ResidualVQVAE
from vq_jax.config import (
    DataConfig,
    DiscriminatorConfig,
    ExperimentConfig,
    Losses,
    OptimizerConfig,
    TrainingConfig,
)

config = ExperimentConfig(
    name="vqgan-photos",
    model=ResidualVQVAE(codebook_size=512, code_dim=64, revive_threshold=0.03),
    data=DataConfig(source="photos", image_size=64, batch_size=8, crops_per_picture=64),
    losses=Losses(
        reconstruction="l1",
        perceptual_weight=1.0,
        adversarial_weight=0.8,
        adversarial_start=150,
        adversarial_ramp=150,
    ),
    optimizer=OptimizerConfig(learning_rate=1e-3, b1=0.5, schedule="cosine", final_ratio=0.05),
    discriminator=DiscriminatorConfig(
        channels=32, num_layers=2, optimizer=OptimizerConfig(learning_rate=2e-4, b1=0.5)
    ),
    training=TrainingConfig(steps=700, eval_every=250, image_every=250, save_every=250),
)
