"""What all masked priors share: which codes training hides, and the loss of finding them."""

from typing import Any

import jax.numpy as jnp

from vq_jax import ops
from vq_jax.nn.priors.base import Condition, LabelledPrior
from vq_jax.ops.given_codes import check_tasks
from vq_jax.types import Array, Bool, Float, Int, Metrics


class MaskedPrior(LabelledPrior):
    """Base of the priors that predict masked codes from the others.

    A mixin for linen modules with the fields below, and with
    `__call__(codes, condition, *, mask, train)`, which returns logits.

    Attributes:
      tasks: what training draws from, out of `ops.TASKS`: what a task gives is never masked, see
        `ops.given_codes`.
      mask_schedule: schedule of the training masks, see `ops.random_mask`.
      unmasked_weight: weight in the loss of the positions that are not masked; 0.1 in TiTok (Yu et al.
        2024, arXiv:2406.07550, code release).
      label_smoothing: label smoothing of the training loss.
    """

    tasks: tuple[str, ...]
    mask_schedule: str
    unmasked_weight: float
    label_smoothing: float

    def _check_fields(self) -> None:
        super()._check_fields()
        if self.mask_schedule not in ops.MASK_SCHEDULES:
            raise ValueError(
                f"{type(self).__name__}.mask_schedule must be one of {', '.join(ops.MASK_SCHEDULES)}, "
                f"got {self.mask_schedule!r}"
            )
        check_tasks(self.tasks, self.grid)

    def loss(
        self, codes: Int[Array, "B *s"], condition: Condition | None = None, *, train: bool = True
    ) -> tuple[Float[Array, ""], Metrics]:
        """Computes the mean cross-entropy of masked codes in nats, smoothed in training, and metrics.

        Tasks and masks are random, drawn from the rng stream `mask`, also in evaluation.
        """
        module: Any = self
        mask = self._training_mask(codes)
        return self._masked_loss(module(codes, condition, mask=mask, train=train), codes, mask, train)

    def _training_mask(self, codes: Int[Array, "B *s"]) -> Bool[Array, "B *s"]:
        """Draws a task for each grid, and a mask among the codes that it does not give."""
        module: Any = self
        given = None
        if set(self.tasks) != {"generation"}:
            given = ops.given_codes(module.make_rng("mask"), codes.shape[0], self.grid, self.tasks)
            given = jnp.broadcast_to(
                given.reshape(*given.shape, *(1,) * (codes.ndim - given.ndim)), codes.shape
            )
        return ops.random_mask(module.make_rng("mask"), codes.shape, self.mask_schedule, given)

    def _masked_loss(
        self,
        logits: Float[Array, "B *s K"],
        codes: Int[Array, "B *s"],
        mask: Bool[Array, "B *s"],
        train: bool,
    ) -> tuple[Float[Array, ""], Metrics]:
        weights = jnp.where(mask, jnp.float32(1.0), jnp.float32(self.unmasked_weight))
        values = ops.code_cross_entropies(logits, codes, self.label_smoothing if train else 0.0)
        loss = jnp.sum(values * weights) / jnp.sum(weights)
        plain = ops.code_cross_entropy(logits, codes, mask)
        return loss, {"cross_entropy": plain, "accuracy": ops.code_accuracy(logits, codes, mask)}

    def _check_mask(self, codes: Int[Array, "B *s"], mask: Bool[Array, "..."] | None) -> None:
        self._check_codes(codes.shape, self.code_shape)
        if mask is not None and mask.shape != codes.shape:
            raise ValueError(f"expected a mask of the codes' shape {codes.shape}, got {mask.shape}")
