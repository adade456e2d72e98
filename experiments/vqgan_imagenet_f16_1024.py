"""VQGAN of Esser et al. 2021 on ImageNet at 256 px: 16x16 codes out of 1024, as the authors released it.

The authors' code puts beta on the codebook term of the quantizer's loss instead of the commitment term, and
the released models were trained that way: hence codebook_weight 0.25 and commitment_weight 1. For the paper's
loss, give --model.quantizer.codebook-weight 1 --model.quantizer.commitment-weight 0.25.

The learning rate is 4.5e-6 times the batch size for both networks: scale it with the batch size. The
discriminator starts at step 250,001; for fewer steps, or to train it from the start, lower
--losses.disc-start.

Differences: codebook vectors start with a length of about 1, not within 1/1024 of zero; the number of steps,
which the authors do not report; bfloat16 on TPUs and newer GPUs.

Command:   vq-jax prepare imagenet2012   (once; needs pip install "vq-jax[tfds]" and the archives of
           image-net.org in ~/tensorflow_datasets/downloads/manual, or in downloads/manual of --data-dir)
           pip install "vq-jax[lpips]"
           vq-jax train vqgan-imagenet-f16-1024
           from a folder of pictures: --data folder:/path/to/train
Hardware:  one GPU of 40 GB, or TPU chips with --batch-size and --optimizer.learning-rate scaled together
Expected:  the authors report rFID 7.94 on the validation set (10.54 on the training set), in the README of
           taming-transformers; not run here
"""

from vq_jax.configs import (
    DataConfig,
    DiscriminatorConfig,
    ExperimentConfig,
    Losses,
    OptimizerConfig,
    TrainingConfig,
    VectorQuantizerConfig,
    VQGANf16,
)

_BATCH_SIZE = 12
_optimizer = OptimizerConfig(learning_rate=4.5e-6 * _BATCH_SIZE, b1=0.5, b2=0.9)

config = ExperimentConfig(
    name="vqgan-imagenet-f16-1024",
    model=VQGANf16(
        quantizer=VectorQuantizerConfig(
            codebook_size=1024, commitment_weight=1.0, codebook_weight=0.25, code_dim=256
        )
    ),
    data=DataConfig(
        source="tfds:imagenet2012",
        image_size=256,
        batch_size=_BATCH_SIZE,
        resize="short-side",
        flip=False,
        num_workers=8,
    ),
    losses=Losses(
        reconstruction="l1",
        perceptual_weight=1.0,
        adversarial_weight=0.8,
        disc_start=250_001,
    ),
    optimizer=_optimizer,
    discriminator=DiscriminatorConfig(channels=64, num_layers=3, norm="batch", optimizer=_optimizer),
    training=TrainingConfig(
        steps=1_000_000, log_every=100, eval_every=10_000, image_every=10_000, save_every=10_000
    ),
)
