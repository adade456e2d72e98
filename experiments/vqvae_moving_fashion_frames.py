"""The baseline of vqvae-moving-fashion: each frame of its clips is encoded alone, at as many bits a pixel.

A frame becomes 8x8 places of five residual codes out of 128, 0.55 bits a pixel, by the network of
vqvae-patches.

Command:   vq-jax train vqvae-moving-fashion-frames
Hardware:  2 CPU cores
Run time:  20 minutes on one core
Expected:  PSNR 27.5 dB on 128 held-out clips, flicker 6.1 grey levels
"""

import dataclasses

from vq_jax.configs import ResidualQuantizerConfig, TrainingConfig, VectorQuantizerEMAConfig, VideoVQVAE
from vq_jax.configs.presets import load_preset

config = dataclasses.replace(
    load_preset("vqvae-moving-fashion"),
    name="vqvae-moving-fashion-frames",
    model=VideoVQVAE(
        image_channels=1,
        patch_size=8,
        frame_stride=1,
        time_width=1,
        quantizer=ResidualQuantizerConfig(
            num_stages=5,
            inner=VectorQuantizerEMAConfig(
                codebook_size=128, code_dim=64, commitment_weight=1.0, revive_threshold=0.03
            ),
        ),
    ),
    training=TrainingConfig(steps=2600, ema_decay=0.99, eval_every=1300, image_every=1300, save_every=1300),
)
