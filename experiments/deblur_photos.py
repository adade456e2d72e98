"""Sharp photographs from blurred ones, by the codes of vqgan-photos.

The blur is a Gaussian with a standard deviation of 0.5 to 3 px, which the network is not told.

Command:   vq-jax train deblur-photos
Hardware:  2 CPU cores
Run time:  about 8 minutes
Expected:  on eleven photographs that it never saw, blurred by 2 px, at fidelity 1, PSNR 29.3 dB and LPIPS
           (AlexNet) 0.173; the blurred ones have 27.6 dB and 0.352
"""

from vq_jax.configs import (
    ColourConfig,
    GaussianBlurConfig,
    OptimizerConfig,
    RestorationLosses,
    RestorerConfig,
    RestorerDataConfig,
    RestorerNetwork,
    TrainingConfig,
)

config = RestorerConfig(
    name="deblur-photos",
    tokenizer="runs/vqgan-photos",
    restorer=RestorerNetwork(fusion_blocks=6, fusion_patch=2),
    data=RestorerDataConfig(
        batch_size=4,
        colour=ColourConfig(permute=True, hue=0.5, saturation=0.5, brightness=0.3),
        degradation=GaussianBlurConfig(sigma=(0.5, 3.0)),
    ),
    losses=RestorationLosses(perceptual="alex", perceptual_weight=0.1),
    optimizer=OptimizerConfig(learning_rate=1e-3, b2=0.99, schedule="cosine", final_ratio=0.05),
    training=TrainingConfig(steps=2000, ema_decay=0.99, eval_every=500, image_every=500, save_every=500),
)
