"""Prior over the codes of vqgan-moving-fashion that draws clips frame by frame, as long as wanted.

It sees the last five decoded frames and their codes, and in most of the training clips frames that it drew
itself, so that it learns to go on from them. Nothing is encoded anew in a long clip.

Command:   vq-jax train prior-moving-fashion-next-frame
           after vq-jax train vqgan-moving-fashion; for a tokenizer elsewhere, give --tokenizer RUN
           vq-jax predict runs/prior-moving-fashion-next-frame CLIP --given 5 --frames 12 -o predicted.gif
Hardware:  2 CPU cores
Run time:  22 minutes on two cores of an AMD EPYC, of which other work took half of one
Expected:  1.98 bits a code on held-out clips. With --temperature 0 both pictures are within 2 px in 81 of
           100 clips at the first frame that follows, in 29 at the second, in 13 at the third, and in none
           over six; about half of what bounces is right. Where the two overlap, their shapes melt
           (benchmarks/video_prediction.py). New clips are blots that move, not clothes
"""

from vq_jax.configs import (
    CodesConfig,
    MaskedOptions,
    NextFrameArchitecture,
    OptimizerConfig,
    PriorConfig,
    PriorDataConfig,
    TrainingConfig,
)

config = PriorConfig(
    name="prior-moving-fashion-next-frame",
    tokenizer="runs/vqgan-moving-fashion",
    prior=NextFrameArchitecture(width=48),
    data=PriorDataConfig(frames=10, batch_size=8, test_limit=64),
    codes=CodesConfig(mode="fly"),  # it learns from frames, and the source has a million clips
    optimizer=OptimizerConfig(
        name="adamw", learning_rate=2e-3, b2=0.98, weight_decay=0.03, schedule="cosine", warmup_steps=30
    ),
    training=TrainingConfig(
        steps=900, ema_decay=0.99, log_every=25, eval_every=450, image_every=450, save_every=450
    ),
    sampling=MaskedOptions(steps=8, order="halton"),  # most confident first would draw the black first
)
