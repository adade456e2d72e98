"""The training step of a discriminator, and what it teaches the generator: pure functions."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen
from jax.sharding import PartitionSpec

from vq_jax import ops
from vq_jax.configs.losses import Losses
from vq_jax.ops.meshes import auto_axes, places_of
from vq_jax.train.state import DiscriminatorState
from vq_jax.train.steps.some_frames import frames_key
from vq_jax.train.steps.update import accumulate_gradients, apply_update
from vq_jax.types import Array, Float, Int, Key, Metrics, Params

REAL, FAKE = 1, 2  # draws of the augmentation


@auto_axes(lambda discriminator, *_, **__: (places_of(discriminator), PartitionSpec()))
def discriminator_step(
    discriminator: DiscriminatorState,
    batch: dict[str, Array],
    reconstruction: Float[Array, "B *S C"],
    rng: Key[Array, ""],
    *,
    discriminator_model: linen.Module,
    optimizer: optax.GradientTransformation,
    losses: Losses,
    accumulate: int = 1,
) -> tuple[DiscriminatorState, Metrics]:
    """One update of the discriminator; it never sees the generator's state.

    Args:
      discriminator: state; its buffers may be donated. Before step `losses.disc_start` only its step counts.
      batch: the batch of `generator_step`; real pictures are its `target`, or `image`. `label` int32 [B]
        is the class of both the real and the reconstructed picture, for a discriminator with classes.
      reconstruction: as `generator_step` returned it; no gradient flows to it.
      rng: key of this step, the same as for `generator_step`.
      discriminator_model: the network.
      optimizer: the chain that made the state.
      losses: weights and kinds.
      accumulate: parts that the batch is cut into, whose gradients are averaged; batch statistics are
        those of each part.

    Returns:
      The new state and metrics, each with the prefix `discriminator/`: float32 scalars, zero before
      `losses.disc_start`.

    Raises:
      ValueError: a start in `losses` is a share of a run's steps, see `Losses.in_steps`.
    """
    starts = losses.starts()
    real = ops.normalize_pictures(batch.get("target", batch["image"]))
    fake = jax.lax.stop_gradient(reconstruction)
    labels = None if getattr(discriminator_model, "num_classes", None) is None else batch["label"]
    loss_function = functools.partial(
        _discriminator_loss,
        lecam=discriminator.lecam,
        step=discriminator.step,
        rng=rng,
        model=discriminator_model,
        losses=losses,
    )

    def gradients(batch_stats: Params, pictures: tuple[Any, ...], number: Array | None) -> Any:
        (_, (batch_stats, metrics)), grads = jax.value_and_grad(loss_function, has_aux=True)(
            discriminator.params, batch_stats, *pictures
        )
        return grads, batch_stats, metrics, None

    grads, batch_stats, metrics, _ = accumulate_gradients(
        gradients, discriminator.params, (real, fake, labels), accumulate, discriminator.batch_stats
    )
    lecam = ops.update_lecam(
        discriminator.lecam, metrics["logits_real"], metrics["logits_fake"], losses.lecam_decay
    )
    learnt, norms = apply_update(optimizer, discriminator, grads, loss=metrics["loss"])
    learnt = dataclasses.replace(learnt, batch_stats=batch_stats, lecam=lecam)
    on = discriminator.step >= starts["disc_start"]
    new: DiscriminatorState = jax.tree.map(functools.partial(jnp.where, on), learnt, discriminator)
    metrics = {
        f"discriminator/{name}": jnp.where(on, value, jnp.zeros_like(value))
        for name, value in (metrics | norms).items()
    }
    return dataclasses.replace(new, step=learnt.step), metrics


def adversarial_pull(
    reconstruction: Float[Array, "B *S C"],
    discriminator: DiscriminatorState,
    rng: Key[Array, ""],
    at_last_kernel: Callable[[dict[str, Array]], Array],
    cotangents: dict[str, Array],
    *,
    discriminator_model: linen.Module,
    losses: Losses,
) -> tuple[Float[Array, "B *S C"], Metrics]:
    """The gradient of the weighted adversarial loss by the reconstruction: what the generator learns from it.

    Args:
      reconstruction: in [-1, 1].
      discriminator: its state, not changed.
      rng: key of the step.
      at_last_kernel: pulls gradients by the model's outputs back to the decoder's last kernel.
      cotangents: gradients of the generator's other losses by the model's outputs, `reconstruction` among
        them; the adaptive weight balances them with the adversarial one.
      discriminator_model: the network.
      losses: kind, weight and start of the adversarial loss.

    Returns:
      The gradient, zero before the adversarial loss starts, and the metrics `adversarial_loss` and
      `adversarial_weight`.
    """

    def adversarial_loss(reconstruction: Array) -> Array:
        params, batch_stats = discriminator.params, discriminator.batch_stats
        logits, _ = judge_pictures(
            discriminator_model, losses, params, batch_stats, reconstruction, FAKE, rng
        )
        return ops.generator_adversarial_loss(logits, losses.adversarial)

    adversarial, slope = jax.value_and_grad(adversarial_loss)(reconstruction)
    starts = losses.starts()
    start = max(starts["disc_start"], starts["adversarial_start"])
    on = discriminator.step >= start
    weight = losses.adversarial_weight * ops.ramp(discriminator.step, start, losses.adversarial_ramp)
    if losses.adaptive:
        nothing = jax.tree.map(jnp.zeros_like, cotangents)
        weight = weight * ops.adaptive_weight(
            at_last_kernel(cotangents),
            at_last_kernel(nothing | {"reconstruction": slope}),
            losses.adaptive_max,
        )
    # Selected, not multiplied by zero: what is not finite on the unused side stays there.
    pull, zero = jnp.where(on, weight * slope, jnp.zeros_like(slope)), jnp.zeros((), jnp.float32)
    return pull, {
        "adversarial_loss": jnp.where(on, adversarial, zero),
        "adversarial_weight": jnp.where(on, weight, zero),
    }


def judge_pictures(
    model: linen.Module,
    losses: Losses,
    params: Params,
    batch_stats: Params,
    pictures: Float[Array, "B *S C"],
    draw: int,
    rng: Key[Array, ""],
    labels: Int[Array, " B"] | None = None,
) -> tuple[Array, Params]:
    """A discriminator's logits, computed with the batch's own statistics, and the new running statistics.

    Args:
      model: the discriminator.
      losses: says whether pictures are augmented.
      params: the discriminator's parameters.
      batch_stats: its running statistics.
      pictures: in [-1, 1].
      draw: REAL or FAKE: each is augmented in its own way, and shows the same frames of its clips.
      rng: key of the step.
      labels: classes of the pictures, for a discriminator with classes.
    """
    if losses.diff_augment:
        pictures = ops.diff_augment(jax.random.fold_in(rng, draw), pictures)
    variables = {"params": params, "batch_stats": batch_stats}
    given = () if labels is None else (labels,)
    rngs = {"frames": frames_key(rng)}
    logits, updates = model.apply(variables, pictures, *given, train=True, mutable=["batch_stats"], rngs=rngs)
    return logits, updates.get("batch_stats", {})


def _discriminator_loss(
    params: Params,
    batch_stats: Params,
    real: Array,
    fake: Array,
    labels: Array | None,
    *,
    lecam: ops.LecamAverages,
    step: Array,
    rng: Array,
    model: linen.Module,
    losses: Losses,
) -> tuple[Array, tuple[Params, Metrics]]:
    judge = functools.partial(judge_pictures, model, losses, params, rng=rng, labels=labels)
    real_logits, real_stats = judge(batch_stats, real, REAL)
    # The generator's step judged the same pictures: the compiler merges the two passes.
    fake_logits, new_stats = judge(real_stats, fake, FAKE)
    loss = ops.discriminator_loss(real_logits, fake_logits, losses.adversarial)
    metrics = {
        "loss": loss,
        "logits_real": jnp.mean(real_logits),
        "logits_fake": jnp.mean(fake_logits),
    }
    if losses.lecam_weight > 0:
        metrics["lecam_loss"] = ops.lecam_loss(real_logits, fake_logits, lecam.real, lecam.fake)
        loss = loss + losses.lecam_weight * metrics["lecam_loss"]
    if losses.r1_weight > 0:
        penalty = _every(
            losses.r1_every,
            step,
            lambda: ops.r1_penalty(lambda pictures: judge(batch_stats, pictures, REAL)[0], real),
        )
        metrics["r1_penalty"] = penalty
        loss = loss + losses.r1_weight * losses.r1_every * penalty
    return loss, (new_stats, metrics)


def _every(interval: int, step: Array, value: Callable[[], Array]) -> Array:
    """A scalar at every multiple of `interval` steps; zero, and not computed, at the others."""
    return jax.lax.cond(step % interval == 0, value, lambda: jnp.zeros((), jnp.float32))
