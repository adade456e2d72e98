"""VQ-GAN on the photographs that come with scikit-image, 64-px crops: the default of `vq-jax train`.

A picture becomes one code out of 512 for every 4x4 pixels, as in vqvae-photos. The first 1,800 steps train
the generator on the pixel loss only, and the discriminator; then LPIPS is added, which takes most of a step's
time, and the generator's adversarial weight rises from zero. Evaluation and loading use averaged weights.

Command:   vq-jax train vqgan-photos
Hardware:  2 CPU cores
Run time:  about 7 minutes
Expected:  LPIPS (AlexNet) 0.26, PSNR 25.6 dB and SSIM 0.75 on the two held-out photographs, which
           use 290 of the 512 codes; vqvae-photos has 0.35, 27.6 dB and 0.77
"""

from vq_jax.configs import (
    DataConfig,
    DiscriminatorConfig,
    ExperimentConfig,
    Losses,
    OptimizerConfig,
    ResidualVQVAE,
    TrainingConfig,
    VectorQuantizerEMAConfig,
)

config = ExperimentConfig(
    name="vqgan-photos",
    model=ResidualVQVAE(
        residual_channels=64,
        num_res_blocks=4,
        upsampling="nearest",
        quantizer=VectorQuantizerEMAConfig(codebook_size=512, code_dim=64, revive_threshold=0.03),
    ),
    data=DataConfig(source="photos", image_size=64, batch_size=8, crops_per_picture=64),
    losses=Losses(
        reconstruction="l1",
        perceptual_weight=0.7,
        perceptual_start=1800,
        adversarial_weight=0.3,
        adversarial_start=1800,
        adversarial_ramp=300,
    ),
    optimizer=OptimizerConfig(learning_rate=1e-3, b1=0.5, schedule="cosine", final_ratio=0.15),
    discriminator=DiscriminatorConfig(
        channels=32, num_layers=2, optimizer=OptimizerConfig(learning_rate=5e-4, b1=0.5)
    ),
    training=TrainingConfig(steps=2450, ema_decay=0.99, eval_every=500, image_every=500, save_every=500),
)
