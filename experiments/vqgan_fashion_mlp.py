"""Fully connected VQ-GAN on Fashion-MNIST: 784-256-128-64 and back, against 784-256-128-1.

The generator is the model of vqvae-fashion-mlp: 16 codes per picture, out of 512.

Command:   vq-jax train vqgan-fashion-mlp
Hardware:  2 CPU cores
Run time:  under a minute
Expected:  PSNR 20.0 dB and SSIM 0.68 on the reported test pictures, with all 512 codes in use;
           vqvae-fashion-mlp has 20.8 dB and 0.76. Pictures stay soft and get some grain: 16 codes and dense
           layers are too few for more
"""

from vq_jax.configs import (
    MLPVQVAE,
    DataConfig,
    DiscriminatorConfig,
    ExperimentConfig,
    Losses,
    OptimizerConfig,
    TrainingConfig,
    VectorQuantizerEMAConfig,
)

config = ExperimentConfig(
    name="vqgan-fashion-mlp",
    model=MLPVQVAE(quantizer=VectorQuantizerEMAConfig(codebook_size=512, revive_threshold=0.03, code_dim=4)),
    data=DataConfig(source="fashion", image_size=28, batch_size=128, flip=False),
    losses=Losses(adversarial_weight=0.3, adversarial_start=500, adversarial_ramp=500),
    optimizer=OptimizerConfig(learning_rate=1e-3, b1=0.5, schedule="cosine", final_ratio=0.02),
    discriminator=DiscriminatorConfig(kind="mlp", optimizer=OptimizerConfig(learning_rate=2e-4, b1=0.5)),
    training=TrainingConfig(steps=3000, log_every=25, eval_every=500, image_every=1000, save_every=500),
)
