"""VQ-VAE on the photographs that come with scikit-image, 64-px crops.

A picture becomes two codes out of 256 for every 4x4 pixels, 1 bit a pixel: the second says what the first
left over. The colours of the crops change at random, since ten photographs have few.

Command:   vq-jax train vqvae-photos
Hardware:  2 CPU cores
Run time:  about 4 minutes
Expected:  PSNR 29.1 dB, SSIM 0.82 and LPIPS (AlexNet) 0.17 on the two held-out photographs, which
           use 420 of the 2 x 256 codes
"""

from vq_jax.configs import (
    ColourConfig,
    DataConfig,
    ExperimentConfig,
    Losses,
    OptimizerConfig,
    PatchVQVAE,
    ResidualQuantizerConfig,
    TrainingConfig,
    VectorQuantizerEMAConfig,
)

config = ExperimentConfig(
    name="vqvae-photos",
    model=PatchVQVAE(
        quantizer=ResidualQuantizerConfig(
            num_stages=2,
            inner=VectorQuantizerEMAConfig(codebook_size=256, code_dim=32, revive_threshold=0.03),
        )
    ),
    data=DataConfig(
        source="photos",
        image_size=64,
        batch_size=4,
        crops_per_picture=64,
        colour=ColourConfig(permute=True, hue=0.5, saturation=0.5, brightness=0.3),
    ),
    losses=Losses(reconstruction="l1"),
    optimizer=OptimizerConfig(learning_rate=1e-3, b2=0.99, schedule="cosine", final_ratio=0.05),
    training=TrainingConfig(steps=3200, ema_decay=0.99, eval_every=800, image_every=800, save_every=800),
)
