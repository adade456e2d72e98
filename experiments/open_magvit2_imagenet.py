"""Open-MAGVIT2's tokenizer (Luo et al. 2024, arXiv:2409.04410) on ImageNet at 256 px: 16x16 codes of 18 bits.

Lookup-free quantization with the exact entropy of all 2^18 codes, the authors' network, a discriminator from
the first step with a fixed weight and LeCam, and averaged weights.

Differences: the discriminator is a PatchGAN without normalisation, and not the authors' variant with blurred
downsampling; the generator's adversarial loss is the hinge loss that the discriminator has, instead of the
non-saturating one; the rate falls as a cosine to a hundredth, instead of by a tenth at epochs 200 and 250;
the short side of a picture is resized to 256 px, then a random square is cropped.

Command:   vq-jax prepare imagenet2012   (once; see vqgan-imagenet-f16-1024)
           vq-jax train open-magvit2-imagenet
           from a folder of pictures: --data folder:/path/to/train
Hardware:  32 GPUs or TPU chips with 8 pictures each; with fewer, --training.accumulate splits the batch.
           --model.quantizer.batch-entropy sum needs less memory. By `vq-jax plan`, 16 chips of TPU v5e hold
           it: 12.7 GiB of 16, at most 105 pictures/s a chip; the plan takes 15 minutes to compile
Expected:  the authors report rFID 1.17, PSNR 21.90 and all codes in use after 270 epochs; not run here
"""

from vq_jax.configs import (
    DataConfig,
    DiscriminatorConfig,
    ExperimentConfig,
    LFQConfig,
    Losses,
    OpenMAGVIT2,
    OptimizerConfig,
    TrainingConfig,
)

_BATCH_SIZE = 256
_optimizer = OptimizerConfig(learning_rate=1e-4, b1=0.5, b2=0.9, schedule="cosine", final_ratio=0.01)

config = ExperimentConfig(
    name="open-magvit2-imagenet",
    model=OpenMAGVIT2(quantizer=LFQConfig(bits=18, batch_entropy="full")),
    data=DataConfig(
        source="tfds:imagenet2012",
        image_size=256,
        batch_size=_BATCH_SIZE,
        resize="short-side",
        num_workers=16,
    ),
    losses=Losses(
        reconstruction="l1",
        perceptual_weight=1.0,
        adversarial_weight=0.1,
        adaptive=False,
        lecam_weight=0.05,
    ),
    optimizer=_optimizer,
    discriminator=DiscriminatorConfig(channels=64, num_layers=3, norm="none", optimizer=_optimizer),
    training=TrainingConfig(
        steps=270 * (1_281_167 // _BATCH_SIZE),
        ema_decay=0.9999,
        log_every=100,
        eval_every=5000,
        image_every=5000,
        save_every=5000,
    ),
)
