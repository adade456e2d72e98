"""Clips on which a prior of frames trains: from some frame on, what came before is its own guess."""

from typing import Any

import jax
import jax.numpy as jnp

from vq_jax.nn import ClosedLoopVQModel, Condition, NextFrameCNN, Past
from vq_jax.ops.meshes import auto_axes, rows_of
from vq_jax.types import Array, Float, Int, Key, Params


@auto_axes(lambda params, images, *_, **__: rows_of(images))
def own_frames(
    params: Params,
    images: Float[Array, "B T H W C"],
    rng: Key[Array, ""],
    *,
    prior_model: NextFrameCNN,
    tokenizer_model: ClosedLoopVQModel,
    tokenizer_variables: Params,
    labels: Int[Array, " B"] | None = None,
    share: float | Float[Array, ""],
) -> tuple[Int[Array, "B T *s"], Condition]:
    """Encodes clips as a prior will meet them when it draws: with its own frames before those to predict.

    In a share of the clips, the frames from one of them on are decoded from the likeliest codes that the
    prior finds. That frame is drawn among those with as many true ones before them as the prior sees. The
    codes to learn are still those that lead to the true frames, from wherever the frame before is: the prior
    learns to mend what it got wrong, and errors do not add up. Pure, and without gradients.

    Args:
      params: of the prior.
      images: clips, in [-1, 1].
      rng: key; which clips, and from which frame on, is drawn from it.
      prior_model: the prior.
      tokenizer_model: whose codes it learns.
      tokenizer_variables: the tokenizer's.
      labels: of the clips, for a class-conditional prior.
      share: of the clips, in [0, 1]; 0 gives the tokenizer's own codes. It may be traced.

    Returns:
      Codes to learn, int32, and the condition of `NextFrameCNN.loss`: views of the frames as the decoder
      made them, and the codes that it made them of.

    References:
      Ross, Gordon, Bagnell 2011, A Reduction of Imitation Learning to No-Regret Online Learning,
      arXiv:1011.0686, algorithm 3.1 (DAgger): learn from what the expert does where the learner got to. Here
      the expert is the encoder.
    """
    batch, times = images.shape[:2]
    which, when = jax.random.split(rng)
    chosen = jax.random.bernoulli(which, jnp.asarray(share, jnp.float32), (batch,))
    begin = jax.random.randint(when, (batch,), prior_model.context, times, jnp.int32)
    begin = jnp.where(chosen, begin, jnp.int32(times))

    def of_tokenizer(method: str, x: Array, previous: Array) -> Array:
        result: Any = tokenizer_model.apply(tokenizer_variables, x, previous, method=method)
        return jax.lax.stop_gradient(result)

    def body(carry: tuple[Past, Array], inputs: tuple[Array, Array]) -> tuple[tuple[Past, Array], Any]:
        (past, previous), (image, number) = carry, inputs
        codes = of_tokenizer("encode_next", image, previous)
        hidden = jnp.ones(codes.shape, bool)
        logits: Any = prior_model.apply(
            {"params": params}, codes, past, Condition(labels), mask=hidden, method="of_frame"
        )
        own = (number >= begin).reshape(batch, *(1,) * (codes.ndim - 1))
        used = jnp.where(own, jnp.argmax(logits, axis=-1).astype(jnp.int32), codes)
        frame = of_tokenizer("decode_next", used, previous)
        view = of_tokenizer("view_next", used, frame)
        return (past.followed_by(used, view), frame), (codes, used, view)

    start = (prior_model.no_past(batch), jnp.zeros_like(images[:, 0]))
    numbers = jnp.arange(times, dtype=jnp.int32)
    _, results = jax.lax.scan(body, start, (images.swapaxes(0, 1), numbers))
    codes, used, views = (jax.lax.stop_gradient(result.swapaxes(0, 1)) for result in results)
    return codes, Condition(labels=labels, codes=used, features=views)
