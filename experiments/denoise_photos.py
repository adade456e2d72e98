"""Photographs without noise, by the codes of vqgan-photos.

The noise is normal, with a standard deviation of 5 to 50 of 255. A little LPIPS keeps textures; most of the
loss is on pixels.

Command:   vq-jax train denoise-photos
Hardware:  2 CPU cores
Run time:  about 10 minutes
"""

from vq_jax.configs import (
    ColourConfig,
    GaussianNoiseConfig,
    OptimizerConfig,
    RestorationLosses,
    RestorerConfig,
    RestorerDataConfig,
    RestorerNetwork,
    TrainingConfig,
)

config = RestorerConfig(
    name="denoise-photos",
    tokenizer="runs/vqgan-photos",
    restorer=RestorerNetwork(fusion_channels=128, fusion_blocks=4),
    data=RestorerDataConfig(
        batch_size=4,
        colour=ColourConfig(permute=True, hue=0.5, saturation=0.5, brightness=0.3),
        degradation=GaussianNoiseConfig(sigma=(5.0, 50.0)),
    ),
    losses=RestorationLosses(perceptual="alex", perceptual_weight=0.05),
    optimizer=OptimizerConfig(learning_rate=1e-3, b2=0.99, schedule="cosine", final_ratio=0.05),
    training=TrainingConfig(steps=2500, ema_decay=0.99, eval_every=500, image_every=500, save_every=500),
)
