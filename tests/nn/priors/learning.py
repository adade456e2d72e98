"""Training of a small prior on a few grids, shared by the tests of all priors."""

import functools

import jax
import optax


def memorise(rng, model, params, codes, condition, optimizer, steps, options=None):
    """Trains on one batch; returns the parameters and the loss before every step.

    The options are the compiler's.
    """

    @functools.partial(jax.jit, static_argnums=2, compiler_options=options)
    def train(params, rng, steps, codes):
        def step(carry, rng):
            params, state = carry
            rngs = {"mask": rng, "dropout": jax.random.fold_in(rng, 1)}
            loss, grads = jax.value_and_grad(
                lambda params: model.apply(
                    {"params": params}, codes, condition, train=True, rngs=rngs, method="loss"
                )[0]
            )(params)
            with jax.numpy_dtype_promotion("standard"):  # optax's bias correction
                updates, state = optimizer.update(grads, state)
            return (optax.apply_updates(params, updates), state), loss

        carry = (params, optimizer.init(params))
        (params, _), losses = jax.lax.scan(step, carry, jax.random.split(rng, steps))
        return params, losses

    return train(params, rng, steps, codes)
