"""MaskGIT's tokenizer (Chang et al. 2022, arXiv:2202.04200) on ImageNet at 256 px: 16x16 codes out of 1024.

A StyleGAN discriminator, the non-saturating loss with R1, an entropy loss that keeps all codes in use, and
averaged weights.

The authors' pictures are in [0, 1], ours in [-1, 1], so loss weights are converted: squared differences are
four times as large here, hence a reconstruction weight of 0.25; squared gradients are a quarter, and the
authors' R1 lacks the factor 1/2, hence an R1 weight of 80 instead of 10.

Differences: the perceptual loss is LPIPS instead of the features of an ImageNet classifier; R1 is computed
every fourth step with four times the weight, instead of every step; the short side of a picture is resized to
256 px, then a random square is cropped.

Command:   vq-jax prepare imagenet2012   (once; see vqgan-imagenet-f16-1024)
           vq-jax train maskgit-imagenet-tokenizer
           from a folder of pictures: --data folder:/path/to/train
Hardware:  8 GPUs of 80 GB or a TPU slice of 16 chips; with fewer, split the batch by --training.accumulate
Expected:  the authors report rFID 2.28, in the README of maskgit; not run here
"""

from vq_jax.configs import (
    DataConfig,
    DiscriminatorConfig,
    ExperimentConfig,
    Losses,
    MaskGITVQGAN,
    OptimizerConfig,
    TrainingConfig,
    VectorQuantizerConfig,
)

_optimizer = OptimizerConfig(learning_rate=1e-4, b1=0.0, b2=0.99)

config = ExperimentConfig(
    name="maskgit-imagenet-tokenizer",
    model=MaskGITVQGAN(
        quantizer=VectorQuantizerConfig(
            codebook_size=1024, code_dim=256, entropy_weight=0.1, entropy_temperature=0.01
        )
    ),
    data=DataConfig(
        source="tfds:imagenet2012", image_size=256, batch_size=256, resize="short-side", num_workers=16
    ),
    losses=Losses(
        reconstruction="l2",
        reconstruction_weight=0.25,
        perceptual_weight=0.1,
        adversarial="non_saturating",
        adversarial_weight=0.1,
        adaptive=False,
        r1_weight=80.0,
        r1_every=4,
    ),
    optimizer=_optimizer,
    discriminator=DiscriminatorConfig(kind="stylegan", channel_multiplier=1, optimizer=_optimizer),
    training=TrainingConfig(
        steps=1_000_000,
        ema_decay=0.999,
        log_every=100,
        eval_every=10_000,
        image_every=10_000,
        save_every=10_000,
    ),
)
