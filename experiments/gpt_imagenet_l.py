"""LlamaGen's GPT-L (Sun et al. 2024, arXiv:2406.06525) on ImageNet at 256 px: 338 million parameters.

24 layers of 1024 over 16x16 codes of 16384, in the order of reading; 300 epochs.

Differs from it: a learned embedding of the position beside the rotary one; training codes are of five
random crops of a picture and their mirror images, not of the four corners and the middle.

Command:   vq-jax train llamagen-imagenet, then
           vq-jax train gpt-imagenet-l
           vq-jax sample runs/gpt-imagenet-l --label 207 -o samples.png
Hardware:  8 GPUs of 80 GB or a TPU slice; on fewer, --training.accumulate cuts the batch
Expected:  the authors report FID 3.80 with guidance 2.0, 50,000 samples, in the
           README of LlamaGen; not run here
"""

import dataclasses

from vq_jax.configs.presets import load_preset

_base = load_preset("gpt-imagenet-b")

config = dataclasses.replace(
    _base,
    name="gpt-imagenet-l",
    prior=dataclasses.replace(_base.prior, width=1024, num_layers=24, num_heads=16, remat=True),
)
