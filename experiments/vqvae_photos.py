"""VQ-VAE on the photographs that come with scikit-image, 64-px crops.

A picture becomes one code out of 512 for every 4x4 pixels.

Command:   vq-jax train vqvae-photos
Hardware:  2 CPU cores
Run time:  about 6 minutes
Expected:  PSNR 27.6 dB and SSIM 0.77 on the two held-out photographs, which use 300 of the 512 codes
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
    name="vqvae-photos",
    model=ResidualVQVAE(
        quantizer=VectorQuantizerEMAConfig(codebook_size=512, code_dim=64, revive_threshold=0.03)
    ),
    data=DataConfig(source="photos", image_size=64, batch_size=16, crops_per_picture=64),
    optimizer=OptimizerConfig(learning_rate=1e-3, schedule="cosine", final_ratio=0.02),
    training=TrainingConfig(steps=1500, eval_every=250, image_every=250, save_every=250),
)
