"""LlamaGen's GPT-XL (Sun et al. 2024, arXiv:2406.06525) on ImageNet at 256 px: 757 million parameters.

36 layers of width 1280 over 16x16 codes out of 16384, in raster order; 300 epochs.

Differences: a learned position embedding in addition to the rotary one; training codes come from five random
crops of each picture and their mirror images, not from the four corners and the center.

Command:   vq-jax train llamagen-imagenet, then
           vq-jax train gpt-imagenet-xl
           vq-jax sample runs/gpt-imagenet-xl --label 207 -o samples.png
Hardware:  8 GPUs of 80 GB or a TPU slice; with fewer, split the batch by --training.accumulate
Expected:  the authors report FID 2.62 with guidance 1.75 and 50,000 samples of 384 px, resized to 256 px,
           in the README of LlamaGen; not run here
"""

import dataclasses

from vq_jax.configs.presets import load_preset

_base = load_preset("gpt-imagenet-b")

config = dataclasses.replace(
    _base,
    name="gpt-imagenet-xl",
    prior=dataclasses.replace(_base.prior, width=1280, num_layers=36, num_heads=20, remat=True),
    sampling=dataclasses.replace(_base.sampling, guidance=1.75),
)
