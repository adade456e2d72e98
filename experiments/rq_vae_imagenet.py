"""RQ-VAE (Lee et al. 2022, arXiv:2203.01941) on ImageNet at 256 px: 8x8 positions with four codes each.

The tokenizer of RQ-Transformer: the network of VQGAN with one more level, and at each position four residual
codes out of one codebook of 16384 vectors, which follows running averages. The discriminator starts at once;
its weight is adaptive.

The authors' code averages the commitment loss over the four stages, where ours is the sum: hence
commitment_weight 0.25 / 4. It updates the codebook once for each stage, ours once for all four; a code that
is used less than once in an update, on average, becomes a latent of the batch in both.

Differences: statistics of the codebook start at zero and are debiased; latents that replace codes are not
shifted by noise; bfloat16 on TPUs and newer GPUs.

Command:   vq-jax prepare imagenet2012   (once; see vqgan-imagenet-f16-1024)
           vq-jax train rq-vae-imagenet
           from a folder of pictures: --data folder:/path/to/train
Hardware:  4 GPUs of 80 GB or a TPU slice of 16 chips; with fewer, --training.accumulate splits the batch
Expected:  the authors report rFID 4.73; not run here
"""

from vq_jax.configs import (
    RQVAE,
    DataConfig,
    DiscriminatorConfig,
    ExperimentConfig,
    Losses,
    OptimizerConfig,
    TrainingConfig,
)

_BATCH_SIZE = 128
_optimizer = OptimizerConfig(learning_rate=4e-5, b1=0.5, b2=0.9)

config = ExperimentConfig(
    name="rq-vae-imagenet",
    model=RQVAE().override(commitment_weight=0.25 / 4, decay=0.99, revive_threshold=1.0),
    data=DataConfig(
        source="tfds:imagenet2012",
        image_size=256,
        batch_size=_BATCH_SIZE,
        resize="short-side",
        num_workers=16,
    ),
    losses=Losses(reconstruction="l2", perceptual_weight=1.0, adversarial_weight=0.75),
    optimizer=_optimizer,
    discriminator=DiscriminatorConfig(channels=64, num_layers=2, norm="batch", optimizer=_optimizer),
    training=TrainingConfig(
        steps=10 * (1_281_167 // _BATCH_SIZE),
        log_every=100,
        eval_every=5000,
        image_every=5000,
        save_every=5000,
    ),
)
