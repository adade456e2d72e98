"""MAGVIT-v2's masked prior (Yu et al. 2023, arXiv:2310.05737) over clips of UCF-101: 5 x 16 x 16 codes.

24 layers of width 1024, 16 heads: the size of MAGVIT-L (arXiv:2212.05199). One token for a position, whose
18 bits are two codes of 9, each with its embedding and head. A third of the clips are generated from their
class alone, the others continued, interpolated or filled, as in MAGVIT's mixture of tasks.

Differences: layers are pre-normalised with RMSNorm and SwiGLU; the task is told by the given codes alone,
which are those of the whole clip; the length of the training and the learning rate were not compared with
the papers' tables, so check them before a long run.

Command:   vq-jax train magvit2-video-128, then
           vq-jax train prior-magvit2-video-128
           vq-jax sample runs/prior-magvit2-video-128 --label 3 -o samples.mp4
           vq-jax predict runs/prior-magvit2-video-128 video.mp4 --given 5 --frames 28 -o continued.mp4
Hardware:  TPU slices or GPU hosts; with fewer chips, split the batch by --training.accumulate
Expected:  the authors report a FVD of 58 on UCF-101 by class; not run here
"""

from vq_jax.configs import (
    CodesConfig,
    MaskedOptions,
    MaskGITArchitecture,
    OptimizerConfig,
    PriorConfig,
    PriorDataConfig,
    TrainingConfig,
)

config = PriorConfig(
    name="prior-magvit2-video-128",
    tokenizer="runs/magvit2-video-128",
    prior=MaskGITArchitecture(
        width=1024,
        num_layers=24,
        num_heads=16,
        dropout=0.1,
        token_dropout=0.0,
        label_smoothing=0.1,
        remat=True,
        tokens="positions",
        tasks=("generation", "generation", "prediction", "interpolation", "inpainting", "outpainting"),
    ),
    data=PriorDataConfig(batch_size=256, num_workers=16),
    codes=CodesConfig(variants=4),
    optimizer=OptimizerConfig(
        name="adamw", learning_rate=1e-4, b1=0.9, b2=0.96, weight_decay=0.045, warmup_steps=5000
    ),
    training=TrainingConfig(
        steps=100_000,
        ema_decay=0.9999,
        log_every=100,
        eval_every=5_000,
        image_every=5_000,
        save_every=5_000,
    ),
    sampling=MaskedOptions(steps=24, guidance=2.0, guidance_schedule="linear"),
)
