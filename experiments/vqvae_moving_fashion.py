"""VQ-VAE on clips of Fashion pictures that move and bounce, 64 px, 17 frames.

A clip becomes 5x8x8 places of four codes out of 512, 0.17 bits a pixel: the first 8x8 places stand for the
first frame, every further 8x8 for four frames, with a code for each of these at first. The pictures of
held-out clips are never trained on.

Command:   vq-jax train vqvae-moving-fashion
Hardware:  2 CPU cores
Run time:  about 6 minutes
Expected:  PSNR 22.5 dB on held-out clips after a run of 1,000 steps; the whole one is not measured yet
"""

from vq_jax.configs import (
    DataConfig,
    ExperimentConfig,
    GroupedQuantizerConfig,
    Losses,
    OptimizerConfig,
    TrainingConfig,
    VectorQuantizerEMAConfig,
    VideoVQVAE,
)

config = ExperimentConfig(
    name="vqvae-moving-fashion",
    model=VideoVQVAE(
        image_channels=1,
        patch_size=8,
        waves="frame",
        quantizer=GroupedQuantizerConfig(
            num_groups=4,
            inner=VectorQuantizerEMAConfig(
                codebook_size=512, code_dim=32, commitment_weight=1.0, revive_threshold=0.03
            ),
        ),
    ),
    data=DataConfig(source="moving-fashion", frames=17, batch_size=4, test_limit=128),
    losses=Losses(reconstruction="l2", reconstruction_weight=2.0),
    optimizer=OptimizerConfig(learning_rate=2e-3, b2=0.99, schedule="cosine", final_ratio=0.05),
    training=TrainingConfig(steps=5000, ema_decay=0.99, eval_every=1250, image_every=1250, save_every=1250),
)
