"""Whether what is asked of a model fits into this machine's memory, judged from shapes."""

import math
from collections.abc import Iterator
from typing import Any

import jax

from vq_jax.host.memory import require_memory

_SMALL = 2**16  # numbers in the inputs; fewer are not worth a look


def check_room(function: Any, variables: Any, inputs: Any, rows: int, what: str) -> None:
    """Checks that the largest array of a computation on the CPU fits into the memory.

    XLA ends the process where it gets no memory for an array. An accelerator raises an error instead.

    Args:
      function: jitted, of the variables and a pytree of arrays [N, ...].
      variables: of the model.
      inputs: pytree of arrays [N, ...], of which `rows` are computed together.
      rows: B.
      what: the inputs, for the message.

    Raises:
      UserError: it does not fit.
    """
    given = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((rows, *leaf.shape[1:]), leaf.dtype), inputs)
    if sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(given)) <= _SMALL:
        return
    if jax.default_backend() != "cpu":
        return
    largest = max(_sizes(function.trace(variables, given).jaxpr.jaxpr), default=0)
    require_memory(largest, what, "give smaller ones, or fewer at a time")


def _sizes(jaxpr: Any) -> Iterator[int]:
    """Bytes of what each operation makes, in functions that it calls too."""
    for equation in jaxpr.eqns:
        outputs = (variable.aval for variable in equation.outvars)
        yield sum(math.prod(aval.shape) * aval.dtype.itemsize for aval in outputs if hasattr(aval, "shape"))
        for value in equation.params.values():
            for inner in value if isinstance(value, tuple | list) else (value,):
                inner = getattr(inner, "jaxpr", inner)
                if hasattr(inner, "eqns"):
                    yield from _sizes(inner)
