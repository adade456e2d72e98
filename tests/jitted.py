"""A module's `init` and `apply` as one compiled program each.

Run op by op, each new op costs 20 to 45 ms, and a network has many; the whole program costs 100 to 300 ms,
once for equal modules, shapes and keywords. Compiling `init` costs a second even for a small network: `drawn`
is there for tests that do not care how parameters are drawn.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen


def init(module: linen.Module, key: Any, *args: Any, **static: Any) -> Any:
    """`module.init(key, *args, **static)`: `key` is a key or a dict of them, the keywords are hashable."""
    return _init(module, tuple(static.items()), key, args)


def init_with_output(module: linen.Module, key: Any, *args: Any, **static: Any) -> Any:
    """`module.init_with_output(key, *args, **static)`: one program where `init` and `apply` would be two."""
    return _init_with_output(module, tuple(static.items()), key, args)


def apply(module: linen.Module, variables: Any, *args: Any, rngs: Any = None, **static: Any) -> Any:
    """`module.apply(variables, *args, rngs=rngs, **static)`; keywords are hashable: `mutable` is a tuple."""
    return _apply(module, tuple(static.items()), variables, args, rngs)


def drawn(module: linen.Module, *args: Any, std: float = 0.06, **static: Any) -> Any:
    """Variables of the shapes of `module.init`, drawn by NumPy; scales of norms are around one."""
    keys = {"params": jax.random.key(0), "dropout": jax.random.key(0), "mask": jax.random.key(0)}
    shapes = jax.eval_shape(functools.partial(module.init, **static), keys, *args)
    rng = np.random.default_rng(0)

    def draw(path: Any, leaf: Any) -> Any:
        mean = 1.0 if path[-1].key == "scale" else 0.0
        return jax.device_put((mean + std * rng.standard_normal(leaf.shape)).astype(leaf.dtype))

    return jax.tree_util.tree_map_with_path(draw, shapes)


@jax.jit
def copied(tree: Any) -> Any:
    """Copies of all arrays of a tree, where they are; for steps that give their state away."""
    return jax.tree.map(jnp.copy, tree)


def _run_init(module: Any, static: Any, key: Any, args: Any) -> Any:
    return module.init(key, *args, **dict(static))


def _run_init_with_output(module: Any, static: Any, key: Any, args: Any) -> Any:
    return module.init_with_output(key, *args, **dict(static))


def _run_apply(module: Any, static: Any, variables: Any, args: Any, rngs: Any) -> Any:
    return module.apply(variables, *args, rngs=rngs, **dict(static))


_init = jax.jit(_run_init, static_argnums=(0, 1))
_init_with_output = jax.jit(_run_init_with_output, static_argnums=(0, 1))
_apply = jax.jit(_run_apply, static_argnums=(0, 1))
