"""VQ-GAN on the photographs that come with scikit-image, 64-px crops: the default of `vq-jax train`.

A picture becomes two codes out of 256 for every 4x4 pixels, as in vqvae-photos: 1 bit a pixel. The generator
learns from pixels and LPIPS at once; the discriminator joins after two fifths of the steps, and the generator
learns from it after three fifths. LPIPS compares features of AlexNet here: those of VGG would take most of a
step's time. Evaluation and loading use averaged weights.

Command:   vq-jax train vqgan-photos
Hardware:  2 CPU cores
Run time:  about 6 minutes
Expected:  PSNR 28.7 dB, SSIM 0.80 and LPIPS (AlexNet) 0.19 on the two held-out photographs, which
           use 420 of the 2 x 256 codes; vqvae-photos has 29.1 dB, 0.82 and 0.17
"""

from vq_jax.configs import (
    ColourConfig,
    DataConfig,
    DiscriminatorConfig,
    ExperimentConfig,
    Losses,
    OptimizerConfig,
    PatchVQVAE,
    ResidualQuantizerConfig,
    TrainingConfig,
    VectorQuantizerEMAConfig,
)

config = ExperimentConfig(
    name="vqgan-photos",
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
    losses=Losses(
        reconstruction="l1",
        perceptual="alex",
        perceptual_weight=0.2,
        adversarial_weight=0.1,
        disc_start=0.4,
        adversarial_start=0.6,
        adversarial_ramp=300,
    ),
    optimizer=OptimizerConfig(learning_rate=1e-3, b2=0.99, schedule="cosine", final_ratio=0.05),
    discriminator=DiscriminatorConfig(
        channels=32, num_layers=2, optimizer=OptimizerConfig(learning_rate=5e-4, b1=0.5)
    ),
    training=TrainingConfig(steps=3200, ema_decay=0.99, eval_every=800, image_every=800, save_every=800),
)
