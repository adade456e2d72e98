"""Photographs without the blocks and rings of JPEG, by the codes of vqgan-photos.

Command:   vq-jax train dejpeg-photos
Hardware:  2 CPU cores
Run time:  about 8 minutes
Expected:  on eleven photographs that it never saw, stored at quality 10, at fidelity 1, PSNR 27.6 dB and
           LPIPS (AlexNet) 0.241; they have 27.1 dB and 0.324 as they are
"""

from vq_jax.configs import (
    ColourConfig,
    JpegConfig,
    OptimizerConfig,
    RestorationLosses,
    RestorerConfig,
    RestorerDataConfig,
    RestorerNetwork,
    TrainingConfig,
)

config = RestorerConfig(
    name="dejpeg-photos",
    tokenizer="runs/vqgan-photos",
    restorer=RestorerNetwork(fusion_blocks=4, fusion_patch=2),
    data=RestorerDataConfig(
        batch_size=4,
        colour=ColourConfig(permute=True, hue=0.5, saturation=0.5, brightness=0.3),
        degradation=JpegConfig(quality=(5, 50)),
    ),
    losses=RestorationLosses(perceptual="alex", perceptual_weight=0.2),
    optimizer=OptimizerConfig(learning_rate=1e-3, b2=0.99, schedule="cosine", final_ratio=0.05),
    training=TrainingConfig(steps=2000, ema_decay=0.99, eval_every=500, image_every=500, save_every=500),
)
