"""Masked prior over the codes of vqgan-moving-fashion: new clips, and the frames that follow given ones.

It sees 6 frames at a time and mostly learns the codes of the last from those of the five before, which is
what a window that slides over a longer clip asks of it.

Command:   vq-jax train prior-moving-fashion
           after vq-jax train vqgan-moving-fashion; for a tokenizer elsewhere, give --tokenizer RUN
           vq-jax predict runs/prior-moving-fashion CLIP --given 5 --frames 12 -o predicted.gif
           vq-jax sample runs/prior-moving-fashion --frames 17 -o samples.gif
Hardware:  2 CPU cores
Run time:  about 9 minutes (0.33 seconds a step on two quiet cores)
Expected:  measured while noise still moved in the codes: 2.09 bits a code on held-out clips. With the
           likeliest codes (--steps 1 --temperature 0) the first of the frames that follow is right within
           2 px in half of the clips, the second in a seventh; things keep their look for two or three
           frames, then smear (benchmarks/video_prediction.py). New clips are blocks that move, not clothes
"""

from vq_jax.configs import (
    CodesConfig,
    MaskedCNNArchitecture,
    MaskedOptions,
    OptimizerConfig,
    PriorConfig,
    PriorDataConfig,
    TrainingConfig,
)

config = PriorConfig(
    name="prior-moving-fashion",
    tokenizer="runs/vqgan-moving-fashion",
    prior=MaskedCNNArchitecture(
        width=128, num_layers=8, tasks=("next", "next", "next", "next", "next", "generation")
    ),
    data=PriorDataConfig(frames=6, batch_size=16, test_limit=64),
    codes=CodesConfig(mode="fly"),  # the source has a million clips, and few steps see them
    optimizer=OptimizerConfig(
        name="adamw", learning_rate=2e-3, b2=0.98, weight_decay=0.03, schedule="cosine", warmup_steps=50
    ),
    training=TrainingConfig(
        steps=1500, ema_decay=0.99, log_every=25, eval_every=500, image_every=750, save_every=500
    ),
    sampling=MaskedOptions(steps=16, order="halton"),  # most confident first would draw the black first
)
