"""The training step of a tokenizer: a pure function from states and batch to states and metrics.

One forward pass of the generator serves both networks: `generator_step` returns the reconstruction that
`discriminator_step` learns from. The adversarial weight takes no second pass either: the pullback of
that one forward pass, restricted to the decoder's last kernel, gives both gradients that it compares.
"""

import contextlib
import dataclasses
import functools
import operator
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen
from jax.sharding import PartitionSpec

from vq_jax import nn, ops
from vq_jax.configs.losses import Losses
from vq_jax.configs.training import PhaseKind
from vq_jax.nn import QuantizerOutput, VQModel, VQOutput
from vq_jax.nn.quantizers.base import silent_without_updates
from vq_jax.ops.meshes import auto_axes, places_of, rows_of
from vq_jax.train.optimizers import apply_revival, keep_frozen
from vq_jax.train.state import DiscriminatorState, GeneratorState
from vq_jax.train.steps.checks import check_networks, last_kernel
from vq_jax.train.steps.code_use import track_use
from vq_jax.train.steps.discriminator import adversarial_pull
from vq_jax.train.steps.some_frames import same_frames
from vq_jax.train.steps.update import accumulate_gradients, apply_update, join_batch
from vq_jax.types import Array, Codes, Float, Key, Latents, Metrics, Params

# Top-level groups of the parameters that learn in each phase.
TRAINABLE: dict[PhaseKind, tuple[str, ...]] = {
    "autoencoder": ("encoder", "decoder"),
    "codebook": ("quantizer",),
    "joint": ("encoder", "quantizer", "decoder"),
}

# Fields of VQOutput through which a loss reaches the parameters.
_DIFFERENTIABLE = ("reconstruction", "loss", "outputs", "latents")


def generator_loss(
    output: VQOutput,
    target: Float[Array, "B *S C"],
    losses: Losses,
    perceptual: Params | None = None,
    rng: Key[Array, ""] | None = None,
) -> tuple[Float[Array, ""], Metrics]:
    """Weighted sum of the reconstruction and perceptual losses, the quantizer's own and the regularisers.

    Args:
      output: the model's.
      target: pictures in [-1, 1] that the reconstruction is compared with.
      losses: weights; those of this step, see `Losses.at`.
      perceptual: variables of LPIPS, see `nn.load_lpips`, where `losses.perceptual_weight` is above zero.
      rng: key of the step, from which `losses.perceptual_frames` of clips are drawn.

    Returns:
      The sum and its parts by name, float32 scalars.

    Raises:
      ValueError: the losses ask for a perceptual distance, and no variables of LPIPS are given; or for some
        frames of clips, and no key.
    """
    reconstruction = ops.reconstruction_loss(output.outputs, target, losses.reconstruction)
    loss = losses.reconstruction_weight * reconstruction + output.loss
    metrics = {"reconstruction_loss": reconstruction, "quantizer_loss": output.loss}
    if losses.perceptual_weight > 0:
        if perceptual is None:
            raise ValueError(
                f"expected variables of LPIPS for losses.perceptual_weight = {losses.perceptual_weight}, got "
                f"none: give perceptual=nn.load_lpips({losses.perceptual!r}), or set the weight to 0"
            )
        pair = output.reconstruction, jax.lax.stop_gradient(target)
        lpips = nn.LPIPS(losses.perceptual, dtype=output.outputs.dtype)
        distances: Any = lpips.apply(
            jax.lax.stop_gradient(perceptual), *same_frames(pair, losses.perceptual_frames, rng)
        )
        distance = jnp.mean(distances)
        loss = loss + losses.perceptual_weight * distance
        metrics["perceptual_loss"] = distance
    if losses.variance_weight > 0:
        variance = functools.reduce(operator.add, map(ops.variance_loss, jax.tree.leaves(output.latents)))
        loss = loss + losses.variance_weight * variance
        metrics["variance_loss"] = variance
    return loss, {"loss": loss, **metrics, **output.metrics}


@auto_axes(lambda generator, _, batch, *__, **___: (places_of(generator), rows_of(batch), PartitionSpec()))
def generator_step(
    generator: GeneratorState,
    discriminator: DiscriminatorState | None,
    batch: dict[str, Array],
    rng: Key[Array, ""],
    *,
    model: VQModel,
    optimizer: optax.GradientTransformation,
    losses: Losses,
    discriminator_model: linen.Module | None = None,
    perceptual: Params | None = None,
    phase: PhaseKind = "joint",
    trained: tuple[str, ...] = TRAINABLE["joint"],
    ema_decay: float = 0.0,
    accumulate: int = 1,
) -> tuple[GeneratorState, Float[Array, "B *S C"], Metrics]:
    """One update of encoder, quantizer and decoder.

    Args:
      generator: state; its buffers may be donated.
      discriminator: its state, never changed; None for a VQ-VAE.
      batch: `image` [B, *S, C], uint8, or float in [-1, 1]; `target`, of the same shape and dtype, where the
        reconstruction is compared with other pictures.
      rng: key of this step, the same as for `discriminator_step`.
      model: the network.
      optimizer: the chain that made the state.
      losses: weights; `losses.head` must be the model's. The caller applies `losses.perceptual_start`, by
        giving `losses.at(step)`: another program, not a branch, which on CPU would run on one core.
      discriminator_model: the discriminator; None for a VQ-VAE.
      perceptual: variables of LPIPS, see `nn.load_lpips`, where `losses.perceptual_weight` is above zero.
      phase: what learns. `autoencoder` bypasses the quantizer; `codebook` leaves encoder and decoder,
        with their moments, exactly as they are; `joint` trains everything.
      trained: groups of the parameters that learn in any phase; the others stay exactly as they are, their
        running average and, without "quantizer", the collection "codebook" too.
      ema_decay: decay of the running average of the parameters, if the state keeps one.
      accumulate: parts that the batch is cut into, whose gradients are averaged, for less memory. The
        codebook is updated once, from all of them; batch statistics of the discriminator and the
        adaptive weight are those of each part.

    Returns:
      The new state, the reconstruction in [-1, 1] from before the update, and metrics: float32 scalars.

    Raises:
      ValueError: model and losses disagree on the decoder's head; the losses ask for a discriminator
        or a perceptual distance that is not given; or no phase trains a group of the parameters.
    """
    check_networks(generator.params, model, losses, discriminator, discriminator_model, TRAINABLE)
    learning = tuple(group for group in TRAINABLE[phase] if group in trained)
    gradients = functools.partial(
        _gradients,
        generator,
        discriminator if losses.has_discriminator else None,
        rng=rng,
        model=model,
        losses=losses,
        discriminator_model=discriminator_model,
        perceptual=perceptual,
        quantize=phase != "autoencoder",
        learning=learning,
    )
    pictures: dict[str, Array] = {name: batch[name] for name in ("image", "target") if name in batch}
    if accumulate == 1:
        grads, output, updates, metrics = gradients(pictures, mutable=["codebook"])
        reconstruction, indices, revival = output.reconstruction, output.indices, output.revival
    else:
        grads, (reconstruction, latents, indices), metrics = _accumulated(
            gradients, generator, pictures, accumulate
        )
        updates, revival = {}, {}
        if phase != "autoencoder" and "quantizer" in trained:
            quantized, updates = _update_codebook(model, generator, latents, rng)
            metrics, revival = metrics | quantized.metrics, quantized.revival
    if "quantizer" not in trained:
        updates, revival = {}, {}
        metrics = {name: value for name, value in metrics.items() if name.split("/")[0] != "revived"}

    def amend(new: GeneratorState) -> GeneratorState:
        params, opt_state = new.params, new.opt_state
        if learning != TRAINABLE["joint"]:
            before = (generator.params, generator.opt_state)
            params, opt_state = keep_frozen(learning, before, (params, opt_state))
        codebook = updates.get("codebook", generator.codebook)
        params, opt_state, codebook = apply_revival(optimizer, params, opt_state, codebook, revival)
        return dataclasses.replace(new, params=params, opt_state=opt_state, codebook=codebook)

    new, norms = apply_update(
        optimizer, generator, grads, loss=metrics["loss"], ema_decay=ema_decay, amend=amend
    )
    if generator.ema_params is not None and new.ema_params is not None:
        kept = {name: group for name, group in generator.ema_params.items() if name not in trained}
        new = dataclasses.replace(new, ema_params={**new.ema_params, **kept})
    new, usage = track_use(new, indices)
    return new, reconstruction, metrics | norms | usage


def _gradients(
    generator: GeneratorState,
    discriminator: DiscriminatorState | None,
    pictures: dict[str, Array],
    *,
    rng: Key[Array, ""],
    model: VQModel,
    losses: Losses,
    discriminator_model: linen.Module | None,
    perceptual: Params | None,
    quantize: bool,
    learning: tuple[str, ...],
    mutable: Any,
) -> tuple[Params, VQOutput, Params, Metrics]:
    """Gradients of one batch, the model's output, its new collections and metrics."""
    images = ops.normalize_pictures(pictures["image"])
    target = ops.normalize_pictures(pictures.get("target", pictures["image"]))
    forward = functools.partial(
        _forward,
        codebook=generator.codebook,
        images=images,
        rng=rng,
        model=model,
        quantize=quantize,
        learning=learning,
        mutable=mutable,
    )
    reached, pullback, (output, updates) = jax.vjp(forward, generator.params, has_aux=True)

    def loss_function(reached: dict[str, Any]) -> tuple[Array, Metrics]:
        return generator_loss(dataclasses.replace(output, **reached), target, losses, perceptual, rng)

    (_, metrics), cotangents = jax.value_and_grad(loss_function, has_aux=True)(reached)

    def at_last_kernel(cotangents: dict[str, Array]) -> Array:
        # All but this leaf is unused and never computed.
        (grads,) = pullback(cotangents)
        return last_kernel(grads, model)

    if discriminator is not None and discriminator_model is not None:
        pull, adversarial = adversarial_pull(
            output.reconstruction,
            discriminator,
            rng,
            at_last_kernel,
            cotangents,
            discriminator_model=discriminator_model,
            losses=losses,
        )
        cotangents = cotangents | {"reconstruction": cotangents["reconstruction"] + pull}
        metrics |= adversarial
    (grads,) = pullback(cotangents)
    return grads, output, updates, metrics


def _forward(
    params: Params,
    *,
    codebook: Params,
    images: Array,
    rng: Key[Array, ""],
    model: VQModel,
    quantize: bool,
    learning: tuple[str, ...],
    mutable: Any,
) -> tuple[dict[str, Array], tuple[VQOutput, Params]]:
    """What the losses read of the model's output, and with it the output whole and the new collections."""
    # Stopped here, the compiler drops the backward pass of what does not learn.
    params = {
        name: group if name in learning else jax.lax.stop_gradient(group) for name, group in params.items()
    }
    # A part of a batch changes no codebook; the whole batch does.
    with contextlib.nullcontext() if mutable else silent_without_updates():
        result: Any = model.apply(
            {"params": params, "codebook": codebook},
            images,
            train=True,
            quantize=quantize,
            mutable=mutable,
            rngs={"quantizer": rng},
        )
    output, updates = result if mutable else (result, {})
    return {name: getattr(output, name) for name in _DIFFERENTIABLE}, (output, updates)


def _accumulated(
    gradients: Callable[..., Any], generator: GeneratorState, pictures: dict[str, Array], parts: int
) -> tuple[Params, tuple[Array, Latents, Codes | None], Metrics]:
    """Mean gradients over the parts of a batch; reconstructions, latents and codes of all; mean metrics."""

    def of_part(carry: None, pictures: dict[str, Array], number: Array | None) -> Any:
        grads, output, _, metrics = gradients(pictures, mutable=False)
        return grads, carry, metrics, (output.reconstruction, output.latents, output.indices)

    grads, _, metrics, kept = accumulate_gradients(of_part, generator.params, pictures, parts)
    return grads, join_batch(kept), metrics


def _update_codebook(
    model: VQModel, generator: GeneratorState, latents: Latents, rng: Key[Array, ""]
) -> tuple[QuantizerOutput, Params]:
    """Quantizes the latents of a whole batch, which updates the codebook."""
    result: Any = model.apply(
        {"params": generator.params, "codebook": generator.codebook},
        latents,
        train=True,
        mutable=["codebook"],
        rngs={"quantizer": rng},
        method="quantize",
    )
    quantized, updates = result
    return quantized, updates
