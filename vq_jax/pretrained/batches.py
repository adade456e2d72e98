"""Calls of a jitted function on a batch as a whole, or on parts of it of one size."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding

from vq_jax.errors import UserError


def in_batches(
    function: Callable[[Any], Any],
    inputs: Any,
    batch_size: int | None = None,
    sharding: NamedSharding | None = None,
) -> Any:
    """Calls a function on parts of its inputs, and joins what it returns.

    All parts have one size, so that one program is compiled: the last row is repeated to fill the last part,
    or one that the devices of the sharding do not divide.

    Args:
      function: of a pytree of arrays [B, ...] to such a pytree.
      inputs: pytree of arrays [N, ...].
      batch_size: rows of a part; all when absent.
      sharding: of a part over a mesh.

    Returns:
      Pytree of NumPy arrays [N, ...].

    Raises:
      UserError: batch_size is below 1.
    """
    total = len(jax.tree.leaves(inputs)[0])
    rows = total if batch_size is None else batch_size
    if rows < 1:
        raise UserError(f"expected batch_size of at least 1, got {batch_size}")
    if sharding is not None:
        rows = -(-rows // sharding.num_devices) * sharding.num_devices

    def part(first: int) -> Any:
        def cut(leaf: Any) -> np.ndarray:
            some = np.asarray(leaf)[first : first + rows]
            return np.concatenate([some, np.repeat(some[-1:], rows - len(some), axis=0)])

        given = jax.tree.map(cut, inputs)
        found = function(given if sharding is None else jax.device_put(given, sharding))
        return jax.tree.map(lambda leaf: np.asarray(leaf)[: total - first], found)

    return jax.tree.map(
        lambda *parts: np.concatenate(parts), *(part(first) for first in range(0, total, rows))
    )
