"""Photographs without noise, by the codes of vqgan-photos.

The noise is normal, with a standard deviation of 5 to 50 of 255. Small crops, and many of them: noise is
local, and no picture is seen often.

Command:   vq-jax train denoise-photos
Hardware:  2 CPU cores
Run time:  about 13 minutes
Expected:  on eleven photographs that it never saw, with noise of 25, at fidelity 1, PSNR 30.8 dB and LPIPS
           (AlexNet) 0.141; non-local means have 30.4 dB and 0.143, BM3D 31.5 dB and 0.099
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
    restorer=RestorerNetwork(fusion_blocks=6, fusion_patch=2),
    data=RestorerDataConfig(
        image_size=32,
        batch_size=16,
        colour=ColourConfig(permute=True, hue=0.5, saturation=0.5, brightness=0.3),
        degradation=GaussianNoiseConfig(sigma=(5.0, 50.0)),
    ),
    losses=RestorationLosses(perceptual="alex", perceptual_weight=0.05),
    optimizer=OptimizerConfig(learning_rate=1e-3, b2=0.99, schedule="cosine", final_ratio=0.05),
    training=TrainingConfig(steps=2500, ema_decay=0.99, eval_every=500, image_every=500, save_every=500),
)
