"""IBQ's tokenizer (Shi et al. 2024, arXiv:2412.02692) on ImageNet at 256 px: 16x16 codes out of 16384.

The network of VQGAN with four residual blocks a level, codebook vectors 256 wide that all learn from every
latent, a discriminator from the first step with a fixed weight and LeCam, and averaged weights.

Differences: the rate falls as a cosine to a hundredth, instead of by a tenth at epochs 250 and 300; the
generator's adversarial loss is the hinge loss that the discriminator has, instead of the non-saturating one;
the codebook starts with vectors of expected length one, instead of standard normal ones; the short side of a
picture is resized to 256 px, then a random square is cropped.

Command:   vq-jax prepare imagenet2012   (once; see vqgan-imagenet-f16-1024)
           vq-jax train ibq-imagenet
           from a folder of pictures: --data folder:/path/to/train
Hardware:  64 GPUs or TPU chips with 4 pictures each; with fewer, --training.accumulate splits the batch
Expected:  the authors report rFID 1.37, LPIPS 0.2235 and 96 % of the codes in use after 330 epochs; not run
           here
"""

from vq_jax.configs import (
    DataConfig,
    DiscriminatorConfig,
    ExperimentConfig,
    IBQConfig,
    Losses,
    OptimizerConfig,
    TrainingConfig,
    VQGANf16,
)

_BATCH_SIZE = 256
_optimizer = OptimizerConfig(learning_rate=1e-4, b1=0.5, b2=0.9, schedule="cosine", final_ratio=0.01)

config = ExperimentConfig(
    name="ibq-imagenet",
    model=VQGANf16(num_res_blocks=4, quantizer=IBQConfig(codebook_size=16384, code_dim=256)),
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
    discriminator=DiscriminatorConfig(channels=64, num_layers=3, norm="batch", optimizer=_optimizer),
    training=TrainingConfig(
        steps=330 * (1_281_167 // _BATCH_SIZE),
        ema_decay=0.9999,
        log_every=100,
        eval_every=5000,
        image_every=5000,
        save_every=5000,
    ),
)
