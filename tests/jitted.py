"""A module's `init` and `apply` as one compiled program each.

Run op by op, each new op costs 20 to 45 ms, and a network has many; the whole program costs 100 to 300 ms,
once for equal modules, shapes and keywords.
"""

from typing import Any

import jax
from flax import linen


def init(module: linen.Module, key: Any, *args: Any, **static: Any) -> Any:
    """`module.init(key, *args, **static)`: `key` is a key or a dict of them, the keywords are hashable."""
    return _init(module, tuple(static.items()), key, args)


def apply(module: linen.Module, variables: Any, *args: Any, rngs: Any = None, **static: Any) -> Any:
    """`module.apply(variables, *args, rngs=rngs, **static)`; keywords are hashable: `mutable` is a tuple."""
    return _apply(module, tuple(static.items()), variables, args, rngs)


def _run_init(module: Any, static: Any, key: Any, args: Any) -> Any:
    return module.init(key, *args, **dict(static))


def _run_apply(module: Any, static: Any, variables: Any, args: Any, rngs: Any) -> Any:
    return module.apply(variables, *args, rngs=rngs, **dict(static))


_init = jax.jit(_run_init, static_argnums=(0, 1))
_apply = jax.jit(_run_apply, static_argnums=(0, 1))
