"""VQ-VAE on clips of Fashion pictures that move and bounce, 64 px, 17 frames.

A clip becomes 17x8x8 places of five codes out of 128, 0.55 bits a pixel: where the patch of 8x8 px moved
from, and four for what is left. The pictures of held-out clips are never trained on.

Command:   vq-jax train vqvae-moving-fashion
Hardware:  2 CPU cores
Run time:  about 12 minutes
Expected:  about the PSNR of vqgan-moving-fashion, 30.8 dB; this one was not run whole
"""

from vq_jax.configs import (
    DataConfig,
    ExperimentConfig,
    Losses,
    MotionVQVAE,
    OptimizerConfig,
    ResidualQuantizerConfig,
    TrainingConfig,
    VectorQuantizerEMAConfig,
)

config = ExperimentConfig(
    name="vqvae-moving-fashion",
    model=MotionVQVAE(
        image_channels=1,
        quantizer=ResidualQuantizerConfig(
            num_stages=4,
            inner=VectorQuantizerEMAConfig(
                codebook_size=128, code_dim=32, commitment_weight=1.0, revive_threshold=0.03
            ),
        ),
    ),
    data=DataConfig(source="moving-fashion", frames=17, batch_size=4, test_limit=128),
    losses=Losses(reconstruction="l2", reconstruction_weight=2.0),
    optimizer=OptimizerConfig(learning_rate=2e-3, b2=0.99, schedule="cosine", final_ratio=0.05),
    training=TrainingConfig(steps=1600, ema_decay=0.99, eval_every=800, image_every=800, save_every=400),
)
