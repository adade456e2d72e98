"""VQ-VAE on the photographs that come with scikit-image, its codes rounded instead of learnt (FSQ).

A picture becomes one code out of 512 = 8 x 8 x 8 for every 4x4 pixels, as in vqvae-photos.

Command:   vq-jax train vqvae-photos-fsq
Hardware:  2 CPU cores
"""

from vq_jax.configs import (
    DataConfig,
    ExperimentConfig,
    FSQConfig,
    OptimizerConfig,
    ResidualVQVAE,
    TrainingConfig,
)

config = ExperimentConfig(
    name="vqvae-photos-fsq",
    model=ResidualVQVAE(quantizer=FSQConfig(levels=(8, 8, 8))),
    data=DataConfig(source="photos", image_size=64, batch_size=16, crops_per_picture=64),
    optimizer=OptimizerConfig(learning_rate=1e-3, schedule="cosine", final_ratio=0.02),
    training=TrainingConfig(steps=1500, eval_every=250, image_every=250, save_every=250),
)
