"""MAGVIT-v2 (Yu et al. 2023, arXiv:2310.05737) on UCF-101: clips of 17 frames at 128 px, 18 bits a code.

The first frame has 16 x 16 positions, every further 4 frames as many: 5 x 16 x 16 of 18 bits, two codes of 9
each, so that a prior has two heads of 512 instead of one of 2^18; the entropy too is that of each half. The
network is the authors'. The weights of the losses, the optimizer and 2000 epochs follow MAGVIT
(arXiv:2212.05199); they were not compared with the tables of either paper, so check them before a long run.

Differences: the discriminator is StyleGAN2's over three axes with its own widths, and sees 16 of the 17
frames; LPIPS of VGG16 on 4 frames a step is the perceptual loss, instead of features of a ResNet on all;
the weight of the entropy is not annealed; weights start at random unless --inflate names a run of the
frame-wise network (--model.time-width 1, --model.time-levels of none) on pictures, as the authors' do.

Command:   vq-jax prepare ucf101   (once)
           vq-jax train magvit2-video-128
           from files: --data video:/path/to/UCF-101
Hardware:  TPU slices or GPU hosts, chips of 40 GiB and more; --training.accumulate splits a step's 256 clips.
           For the backward pass of a clip the network keeps 6.9 GiB in bfloat16, and 43.6 without remat (by
           the shapes of the program, weights included); weights, averages, moments and gradients take 7 GiB.
           One clip a chip fits v5e:4x4: 9.2 of 16 GiB with --training.mesh-fsdp 16 (vq-jax plan
           --fsdp 16 --per-device-batch 1, over an hour of a busy core). On CPU remat saves nothing
Expected:  the authors report a rFVD of 16.1, and 8.6 with a deeper network; not run here
"""

from vq_jax.configs import (
    DataConfig,
    DiscriminatorConfig,
    ExperimentConfig,
    GroupedQuantizerConfig,
    LFQConfig,
    Losses,
    MAGVIT2Video,
    OptimizerConfig,
    TrainingConfig,
)

_BATCH_SIZE = 256
_EPOCH = 9537 // _BATCH_SIZE  # videos of the first training split
_optimizer = OptimizerConfig(learning_rate=1e-4, b1=0.0, b2=0.99, schedule="cosine", warmup_steps=5 * _EPOCH)

config = ExperimentConfig(
    name="magvit2-video-128",
    model=MAGVIT2Video(quantizer=GroupedQuantizerConfig(inner=LFQConfig(bits=9), num_groups=2), remat=True),
    data=DataConfig(
        source="tfds:ucf101",
        frames=17,
        image_size=128,
        batch_size=_BATCH_SIZE,
        resize="short-side",
        num_workers=16,
    ),
    losses=Losses(
        reconstruction="l2",
        reconstruction_weight=5.0,
        perceptual_weight=0.1,
        perceptual_frames=4,
        adversarial_weight=0.1,
        adversarial="non_saturating",
        adaptive=False,
        r1_weight=10.0,
    ),
    optimizer=_optimizer,
    discriminator=DiscriminatorConfig(kind="stylegan", frames=16, optimizer=_optimizer),
    training=TrainingConfig(
        steps=2000 * _EPOCH,
        ema_decay=0.999,
        log_every=50,
        eval_every=1000,
        image_every=1000,
        save_every=1000,
    ),
)
