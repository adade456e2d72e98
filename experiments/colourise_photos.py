"""Colours for grey photographs, by the codes of vqgan-photos.

Ten photographs do not teach what colours things have: on others, these are guesses, and mostly wrong. The
preset is a start for pictures of one kind (--data folder:PATH, with a tokenizer trained on them).

Command:   vq-jax train colourise-photos
Hardware:  2 CPU cores
Run time:  about 4 minutes
Expected:  on eleven photographs that it never saw, at fidelity 1, PSNR 19.0 dB and LPIPS (AlexNet) 0.286;
           the grey ones have 20.0 dB and 0.284
"""

from vq_jax.configs import (
    ColourConfig,
    GreyConfig,
    OptimizerConfig,
    RestorationLosses,
    RestorerConfig,
    RestorerDataConfig,
    RestorerNetwork,
    TrainingConfig,
)

config = RestorerConfig(
    name="colourise-photos",
    tokenizer="runs/vqgan-photos",
    restorer=RestorerNetwork(channels=64, residual_channels=32, num_res_blocks=2),
    data=RestorerDataConfig(
        batch_size=4,
        colour=ColourConfig(hue=0.05, saturation=0.3, brightness=0.3),
        degradation=GreyConfig(),
    ),
    losses=RestorationLosses(perceptual="alex", perceptual_weight=0.2),
    optimizer=OptimizerConfig(learning_rate=1e-3, b2=0.99, schedule="cosine", final_ratio=0.05),
    training=TrainingConfig(steps=1000, ema_decay=0.99, eval_every=500, image_every=500, save_every=500),
)
