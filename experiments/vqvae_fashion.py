"""Residual VQ-VAE on the 10,000 Fashion-MNIST pictures that come with the package.

A picture becomes 7x7 codes out of 128.

Command:   vq-jax train vqvae-fashion
Hardware:  2 CPU cores
"""

from vq_jax.configs import (
    DataConfig,
    ExperimentConfig,
    OptimizerConfig,
    ResidualVQVAE,
    TrainingConfig,
    VectorQuantizerEMAConfig,
)

config = ExperimentConfig(
    name="vqvae-fashion",
    model=ResidualVQVAE(
        image_channels=1,
        channels=64,
        quantizer=VectorQuantizerEMAConfig(codebook_size=128, code_dim=16, revive_threshold=0.03),
    ),
    data=DataConfig(source="fashion", image_size=28, batch_size=64),
    optimizer=OptimizerConfig(learning_rate=1e-3, schedule="cosine", final_ratio=0.02),
    training=TrainingConfig(steps=1500, eval_every=250, image_every=500, save_every=250),
)
