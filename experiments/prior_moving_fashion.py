"""Prior over the codes of vqgan-moving-fashion, frame by frame: the frames that follow given ones, new clips.

It sees the last five decoded frames and their codes, and in half of the training clips frames that it drew
itself, so that it learns to go on from them.

Command:   vq-jax train prior-moving-fashion
           after vq-jax train vqgan-moving-fashion; for a tokenizer elsewhere, give --tokenizer RUN
           vq-jax predict runs/prior-moving-fashion CLIP --given 5 --frames 12 -o predicted.gif
           vq-jax sample runs/prior-moving-fashion --frames 17 -o samples.gif
Hardware:  2 CPU cores
Run time:  about 15 minutes
Expected:  see benchmarks/video_prediction.py
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
    name="prior-moving-fashion",
    tokenizer="runs/vqgan-moving-fashion",
    prior=NextFrameArchitecture(),
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
