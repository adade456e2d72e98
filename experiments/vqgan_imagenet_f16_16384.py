"""VQGAN of Esser et al. 2021 on ImageNet at 256 px: 16x16 codes out of 16384, as the authors released it.

vqgan-imagenet-f16-1024 with more codes, a discriminator of two layers that is trained from the first step,
and an adversarial weight of 0.75, as in the configuration released with the weights. The quantizer's loss has
beta on the codebook term, as in vqgan-imagenet-f16-1024.

Without revival, most codes of such a large codebook are never used: Zhu et al. 2024, arXiv:2406.11837, report
less than 12 % in use. --model.quantizer.revive-threshold 0.001 turns revival on.

Command:   vq-jax prepare imagenet2012   (once; see vqgan-imagenet-f16-1024)
           vq-jax train vqgan-imagenet-f16-16384
           from a folder of pictures: --data folder:/path/to/train
Hardware:  one GPU of 40 GB, or TPU chips with --batch-size and --optimizer.learning-rate scaled together
Expected:  the authors report rFID 4.98 on the validation set (7.41 on the training set), in the README of
           taming-transformers; not run here
"""

import dataclasses

from vq_jax.configs.presets import load_preset

_base = load_preset("vqgan-imagenet-f16-1024")

config = dataclasses.replace(
    _base,
    name="vqgan-imagenet-f16-16384",
    model=_base.model.override(codebook_size=16384),
    losses=dataclasses.replace(_base.losses, adversarial_weight=0.75, disc_start=0),
    discriminator=dataclasses.replace(_base.discriminator, num_layers=2),
)
