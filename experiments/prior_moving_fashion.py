"""Masked prior over the codes of vqgan-moving-fashion: new clips, and the frames that follow given ones.

It sees 9 frames at a time, three codes of each place, and mostly learns the last from the two before, which
is what a window that slides over a longer clip asks of it.

Command:   vq-jax train prior-moving-fashion
           after vq-jax train vqgan-moving-fashion; for a tokenizer elsewhere, give --tokenizer RUN
           vq-jax predict runs/prior-moving-fashion CLIP --given 5 --frames 12 -o predicted.gif
           vq-jax sample runs/prior-moving-fashion --frames 17 -o samples.gif
Hardware:  2 CPU cores
Run time:  24 minutes beside other work; 0.46 seconds a step, 19 minutes, on two quiet cores
Expected:  2.56 bits a code on held-out clips. With the likeliest codes (--steps 1 --temperature 0) the first
           of the frames that follow is right within 2 px in a third of the clips, and things move where they
           should for about four frames, then dissolve (experiments/benchmarks/video_prediction.py)
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
        width=160, num_layers=8, tasks=("next", "next", "next", "next", "next", "generation", "inpainting")
    ),
    data=PriorDataConfig(frames=9, batch_size=16, test_limit=64),
    codes=CodesConfig(mode="fly"),  # the source has a million clips, and few steps see them
    optimizer=OptimizerConfig(
        name="adamw", learning_rate=2e-3, b2=0.98, weight_decay=0.03, schedule="cosine", warmup_steps=50
    ),
    training=TrainingConfig(
        steps=2500, ema_decay=0.99, log_every=25, eval_every=500, image_every=1250, save_every=500
    ),
    sampling=MaskedOptions(steps=16, order="halton"),  # most confident first would draw the black first
)
