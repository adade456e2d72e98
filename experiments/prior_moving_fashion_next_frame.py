"""Prior over the codes of vqgan-moving-fashion that draws clips frame by frame, as long as wanted.

It sees the last five decoded frames and their codes, and in half of the training clips frames that it drew
itself, so that it learns to go on from them. Nothing is encoded anew in a long clip.

Command:   vq-jax train prior-moving-fashion-next-frame
           after vq-jax train vqgan-moving-fashion; for a tokenizer elsewhere, give --tokenizer RUN
           vq-jax predict runs/prior-moving-fashion-next-frame CLIP --given 5 --frames 12 -o predicted.gif
Hardware:  2 CPU cores
Run time:  29 minutes on two cores of an AMD EPYC, with tests beside it
Expected:  2.02 bits a code on held-out clips. With --steps 8 --temperature 0 the first of the frames that
           follow is right within 2 px in half of the clips, the second in one of 25; things keep their
           substance and stay in the picture, but their shapes melt (benchmarks/video_prediction.py). New
           clips are blots that move, not clothes
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
