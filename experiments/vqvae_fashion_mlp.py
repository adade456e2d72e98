"""Fully connected VQ-VAE on Fashion-MNIST: 784-256-128-64 and back, with 512 codes.

A picture becomes 16 codes: the 64 outputs of the encoder are 16 latents of 4.

Command:   vq-jax train vqvae-fashion-mlp
Hardware:  2 CPU cores
"""

from vq_jax.configs import (
    MLPVQVAE,
    DataConfig,
    ExperimentConfig,
    OptimizerConfig,
    TrainingConfig,
    VectorQuantizerEMAConfig,
)

config = ExperimentConfig(
    name="vqvae-fashion-mlp",
    model=MLPVQVAE(quantizer=VectorQuantizerEMAConfig(codebook_size=512, revive_threshold=0.03, code_dim=4)),
    data=DataConfig(source="fashion", image_size=28, batch_size=128, flip=False),
    optimizer=OptimizerConfig(learning_rate=1e-3, schedule="cosine", final_ratio=0.02),
    training=TrainingConfig(steps=3000, log_every=25, eval_every=500, image_every=1000, save_every=500),
)
