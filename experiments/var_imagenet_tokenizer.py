"""VAR's tokenizer (Tian et al. 2024, arXiv:2404.02905) on ImageNet at 256 px: ten grids, 680 codes of 4096.

The multi-scale residual quantizer: a grid of codes at each of the scales 1, 2, 3, 4, 5, 6, 8, 10, 13 and 16,
one codebook for all, and four convolutions that enlarged vectors pass. The network is VQGAN's, 160 wide, with
3x3 convolutions around the quantizer.

The paper gives neither weights of the losses nor a schedule, and the authors' code has no training of this
tokenizer. The values here are those of their code for a tokenizer of one scale (vaex). Differences from it:
the discriminator is a PatchGAN, not one on features of DINO, and starts at once; the reconstruction loss is
the squared error alone, without 0.2 of the absolute one; the weight of LPIPS is 1. VAR's own tokenizer was
trained on OpenImages.

Command:   vq-jax prepare imagenet2012   (once; see vqgan-imagenet-f16-1024)
           vq-jax train var-imagenet-tokenizer
           from a folder of pictures: --data folder:/path/to/train
Hardware:  32 GPUs or TPU chips with 24 pictures each; with fewer, --training.accumulate splits the batch
Expected:  rFID of about 0.9, which others measured with the released weights; not run here
"""

from vq_jax.configs import (
    DataConfig,
    DiscriminatorConfig,
    ExperimentConfig,
    Losses,
    OptimizerConfig,
    TrainingConfig,
    VARTokenizer,
)

_BATCH_SIZE = 768
_optimizer = OptimizerConfig(
    name="adamw",
    learning_rate=3e-4,
    b1=0.5,
    b2=0.9,
    weight_decay=5e-3,
    schedule="cosine",
    final_ratio=0.3,
    clip_norm=10.0,
)

config = ExperimentConfig(
    name="var-imagenet-tokenizer",
    model=VARTokenizer(),
    data=DataConfig(
        source="tfds:imagenet2012",
        image_size=256,
        batch_size=_BATCH_SIZE,
        resize="short-side",
        num_workers=16,
    ),
    losses=Losses(
        reconstruction="l2",
        perceptual_weight=1.0,
        adversarial_weight=0.4,
        diff_augment=True,
    ),
    optimizer=_optimizer,
    discriminator=DiscriminatorConfig(channels=64, num_layers=3, norm="batch", optimizer=_optimizer),
    training=TrainingConfig(
        steps=250 * (1_281_167 // _BATCH_SIZE),
        ema_decay=0.9999,
        log_every=100,
        eval_every=5000,
        image_every=5000,
        save_every=5000,
    ),
)
