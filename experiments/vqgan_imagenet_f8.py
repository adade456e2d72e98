"""VQGAN with a code for every 8x8 pixels, on ImageNet at 256 px: 32x32 codes out of 16384, 4 wide.

The network is the f8 one of Rombach et al. 2022, arXiv:2112.10752, who trained it on OpenImages; losses and
discriminator are those of vqgan-imagenet-f16-16384.

Command:   vq-jax prepare imagenet2012   (once; see vqgan-imagenet-f16-1024)
           vq-jax train vqgan-imagenet-f8
           from a folder of pictures: --data folder:/path/to/train
Hardware:  one GPU of 40 GB, or TPU chips with --batch-size and --optimizer.learning-rate scaled together
Expected:  for the model trained on OpenImages, the authors report rFID 1.14 on ImageNet's validation set
           in the README of taming-transformers; not run here
"""

import dataclasses

from vq_jax.configs import VectorQuantizerConfig, VQGANf8
from vq_jax.configs.presets import load_preset

_base = load_preset("vqgan-imagenet-f16-16384")

config = dataclasses.replace(
    _base,
    name="vqgan-imagenet-f8",
    model=VQGANf8(
        z_channels=4,
        quantizer=VectorQuantizerConfig(
            codebook_size=16384, code_dim=4, commitment_weight=1.0, codebook_weight=0.25
        ),
    ),
)
