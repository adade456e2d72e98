"""The training step: a pure function from state and batch to state and metrics. Jitted in `sharding`."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from vq_jax import ops
from vq_jax.config import Losses, PhaseKind
from vq_jax.nn import VQModel, VQOutput
from vq_jax.train.optimizers import apply_revival, keep_frozen
from vq_jax.train.state import GeneratorState
from vq_jax.types import Array, Float, Key, Metrics, Params

# Parts of the parameters that learn in each phase.
TRAINABLE: dict[PhaseKind, tuple[str, ...]] = {
    "autoencoder": ("encoder", "decoder"),
    "codebook": ("quantizer",),
    "joint": ("encoder", "quantizer", "decoder"),
}


def generator_loss(
    output: VQOutput, target: Float[Array, "B *S C"], losses: Losses
) -> tuple[Float[Array, ""], Metrics]:
    """Weighted sum of the reconstruction loss, the quantizer's own and the regularisers.

    Args:
      output: the model's.
      target: pictures in [-1, 1] that the reconstruction is compared with.
      losses: weights.

    Returns:
      The sum and its parts by name, float32 scalars.
    """
    reconstruction = ops.reconstruction_loss(output.outputs, target, losses.reconstruction)
    loss = losses.reconstruction_weight * reconstruction + output.loss
    metrics = {"reconstruction_loss": reconstruction, "quantizer_loss": output.loss}
    if losses.variance_weight > 0:
        variance = ops.variance_loss(output.latents)
        loss = loss + losses.variance_weight * variance
        metrics["variance_loss"] = variance
    return loss, {"loss": loss, **metrics, **output.metrics}


def generator_step(
    generator: GeneratorState,
    discriminator: Any,
    batch: dict[str, Array],
    rng: Key[Array, ""],
    *,
    model: VQModel,
    optimizer: optax.GradientTransformation,
    losses: Losses,
    discriminator_model: Any = None,
    phase: PhaseKind = "joint",
    ema_decay: float = 0.0,
) -> tuple[GeneratorState, Float[Array, "B *S C"], Metrics]:
    """One update of encoder, quantizer and decoder.

    Args:
      generator: state; its buffers may be donated.
      discriminator: None, for a VQ-VAE.
      batch: `image` uint8 or float in [-1, 1], [B, *S, C]; `target` alike where the reconstruction is
        compared with something else.
      rng: key of this step.
      model: the network.
      optimizer: the chain that made the state.
      losses: weights; `losses.head` must be the model's.
      discriminator_model: None, for a VQ-VAE.
      phase: what learns. `autoencoder` passes the quantizer by; `codebook` leaves encoder and decoder,
        with their moments, exactly as they are; `joint` trains everything.
      ema_decay: of the running average of the parameters, if the state keeps one.

    Returns:
      The new state, the reconstruction in [-1, 1] from before the update, and metrics: float32 scalars.

    Raises:
      ValueError: model and losses disagree on the decoder's head.
    """
    if model.head != losses.head:
        raise ValueError(
            f"losses.reconstruction = {losses.reconstruction!r} needs a model with head = "
            f"{losses.head!r}, got {model.head!r}"
        )
    images = ops.normalize_pictures(batch["image"])
    target = ops.normalize_pictures(batch.get("target", batch["image"]))
    trainable = TRAINABLE[phase]

    def loss_function(params: Params) -> tuple[Array, tuple[VQOutput, Params, Metrics]]:
        # Stopped here, the compiler drops the backward pass of what does not learn.
        params = {
            name: part if name in trainable else jax.lax.stop_gradient(part) for name, part in params.items()
        }
        output, updates = model.apply(
            {"params": params, "codebook": generator.codebook},
            images,
            train=True,
            quantize=phase != "autoencoder",
            mutable=["codebook"],
            rngs={"quantizer": rng},
        )
        loss, metrics = generator_loss(output, target, losses)
        return loss, (output, updates.get("codebook", {}), metrics)

    (_, (output, codebook, metrics)), grads = jax.value_and_grad(loss_function, has_aux=True)(
        generator.params
    )
    # Optax mixes int32 counts with floats, which a caller's strict promotion would refuse.
    with jax.numpy_dtype_promotion("standard"):
        updates, opt_state = optimizer.update(grads, generator.opt_state, generator.params)
    params = optax.apply_updates(generator.params, updates)
    if phase != "joint":
        params, opt_state = keep_frozen(
            optimizer, trainable, (generator.params, generator.opt_state), (params, opt_state)
        )
    params, opt_state = apply_revival(optimizer, params, opt_state, output.revival)
    ema_params = generator.ema_params
    if ema_params is not None:
        ema_params = optax.incremental_update(params, ema_params, 1.0 - ema_decay)
    metrics["grad_norm"] = optax.tree.norm(grads)
    metrics["param_norm"] = optax.tree.norm(params)
    new = GeneratorState(
        step=generator.step + jnp.ones((), jnp.int32),
        params=params,
        codebook=codebook,
        opt_state=opt_state,
        ema_params=ema_params,
    )
    return new, output.reconstruction, metrics
