"""LlamaGen's tokenizer VQ-16 (Sun et al. 2024, arXiv:2406.06525) on ImageNet at 256 px.

16x16 codes out of 16384, with 8-wide codebook vectors of unit length. The discriminator starts at step
20,000; its weight is fixed, not adaptive.

Differences: the short side of a picture is resized to 256 px, not to a slightly larger random length.

Command:   vq-jax prepare imagenet2012   (once; see vqgan-imagenet-f16-1024)
           vq-jax train llamagen-imagenet
           from a folder of pictures: --data folder:/path/to/train
Hardware:  8 GPUs of 40 GB or TPU chips; with fewer, --training.accumulate 8 splits the batch into 8 parts
Expected:  the authors report rFID 2.19 and 97 % of the codes in use after 40 epochs; not run here
"""

from vq_jax.configs import (
    DataConfig,
    DiscriminatorConfig,
    ExperimentConfig,
    LlamaGenVQ16,
    Losses,
    OptimizerConfig,
    TrainingConfig,
)

_BATCH_SIZE = 128
_optimizer = OptimizerConfig(learning_rate=1e-4, b1=0.9, b2=0.95, clip_norm=1.0)

config = ExperimentConfig(
    name="llamagen-imagenet",
    model=LlamaGenVQ16(),
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
        adversarial_weight=0.5,
        adaptive=False,
        disc_start=20_000,
    ),
    optimizer=_optimizer,
    discriminator=DiscriminatorConfig(channels=64, num_layers=3, norm="batch", optimizer=_optimizer),
    training=TrainingConfig(
        steps=40 * (1_281_167 // _BATCH_SIZE),
        log_every=100,
        eval_every=5000,
        image_every=5000,
        save_every=5000,
    ),
)
