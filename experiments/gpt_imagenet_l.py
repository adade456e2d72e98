"""LlamaGen's GPT-L (Sun et al. 2024, arXiv:2406.06525) on ImageNet at 256 px: 338 million parameters.

24 layers of width 1024 over 16x16 codes out of 16384, in raster order; 300 epochs.

Differences: a learned position embedding in addition to the rotary one; training codes come from five random
crops of each picture and their mirror images, not from the four corners and the center.

Command:   vq-jax train llamagen-imagenet, then
           vq-jax train gpt-imagenet-l
           vq-jax sample runs/gpt-imagenet-l --label 207 -o samples.png
Hardware:  8 GPUs of 80 GB or a TPU slice; with fewer, split the batch by --training.accumulate
Expected:  the authors report FID 3.80 with guidance 2.0 and 50,000 samples in the README of
           LlamaGen; not run here
"""

import dataclasses

from vq_jax.configs.presets import load_preset

_base = load_preset("gpt-imagenet-b")

config = dataclasses.replace(
    _base,
    name="gpt-imagenet-l",
    prior=dataclasses.replace(_base.prior, width=1024, num_layers=24, num_heads=16, remat=True),
)
