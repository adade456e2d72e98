"""One program for equal functions: `jax.jit` that finds again what it was given before.

jax knows a function by its identity, so that each run of the same configuration traces, lowers and loads its
steps anew, although a run makes them of equal networks. Here two functions are one where they come from the
same line and hold equal values: partial functions and closures are compared by what is in them. What cannot
be hashed, such as an array or a list, is never compared: such a function is jitted by itself, as ever.

What a function reads from its module is not compared: a test that counts traces, or replaces what a step
calls while it is traced, takes values that no other test has.
"""

import functools
import types
from typing import Any

import jax

_KEPT = 512  # jitted functions; the values of older ones are let go


def share_programs() -> None:
    """Replaces `jax.jit` and `jax.eval_shape`; to be called before others take them from jax."""
    jit, made = jax.jit, functools.lru_cache(_KEPT)(lambda key: [])

    @functools.wraps(jit)
    def shared(function: Any = None, /, **options: Any) -> Any:
        if not callable(function):
            return jit(**options) if function is None else jit(function, **options)
        try:
            leaves, structure = jax.tree.flatten(options)  # shardings may be those of a whole state
            place = made((_equal(function, frozenset()), _equal(tuple(leaves), frozenset()), structure))
        except (TypeError, ValueError):  # not hashable; a variable that has no value yet
            return jit(function, **options)
        if not place:
            place.append(jit(function, **options))
        return place[0]

    @functools.wraps(jax.eval_shape)
    def eval_shape(function: Any, *args: Any, **keywords: Any) -> Any:
        jitted = function if hasattr(function, "trace") else shared(function)
        return jitted.trace(*args, **keywords).out_info

    jax.jit, jax.eval_shape = shared, eval_shape


def _equal(value: Any, outer: frozenset[int]) -> Any:
    """A key that is equal for equal functions, and for values that are equal and of one type."""
    if id(value) in outer:
        raise TypeError("it holds itself")
    inner = functools.partial(_equal, outer=outer | {id(value)})
    match value:
        case functools.partial():
            return functools.partial, inner(value.func), inner(value.args), inner(value.keywords)
        case types.FunctionType():
            cells = [cell.cell_contents for cell in value.__closure__ or ()]
            if str(value.__module__).startswith("optax."):  # nobody changes the lists in a chain
                cells = [tuple(cell) if isinstance(cell, list) else cell for cell in cells]
            defaults = inner(value.__defaults__), inner(value.__kwdefaults__)
            return value.__code__, value.__module__, tuple(map(inner, cells)), defaults
        case types.MethodType():
            return types.MethodType, inner(value.__func__), inner(value.__self__)
        case dict():
            return dict, tuple((name, inner(item)) for name, item in sorted(value.items()))
        case tuple():
            return type(value), tuple(map(inner, value))
    hash(value)
    return type(value), value
