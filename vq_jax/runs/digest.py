"""A checksum of every array of a state, computed where the array lives: on its devices, or in NumPy.

A checkpoint carries the checksums of what was saved, so that restoring notices a byte that changed on the
disk or on the way to it. The state stays on the device: only eight bytes a leaf come to the host.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import UInt32

from vq_jax.types import AnyArray

_BLOCK = 2**16  # elements of an array on the host that are mixed at once: they stay in the cache
_UNSIGNED = {1: jnp.uint8, 2: jnp.uint16, 4: jnp.uint32}

# One row a checksum: the weight of the position (odd), then murmur3's and a second 32-bit
# finaliser's shifts and odd multipliers. Every one of these maps is a bijection of 32-bit words.
_MIXERS = (
    (0x9E3779B1, (16, 0x85EBCA6B, 13, 0xC2B2AE35, 16)),
    (0x27D4EB2F, (16, 0x7FEB352D, 15, 0x846CA68B, 16)),
)


def leaf_names(tree: Any) -> dict[str, Any]:
    """Returns the leaves of `tree` by their path, such as `.params['decoder']['kernel']`.

    Args:
        tree: any pytree; `None` is not a leaf.

    Returns:
        The leaves in the order of the tree, keyed by their path.
    """
    return {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def leaf_types(tree: Any) -> dict[str, str]:
    """Returns dtype and shape of every leaf, such as `float32[3,4]`, by its path."""
    return {
        name: f"{leaf.dtype}[{','.join(map(str, leaf.shape))}]" for name, leaf in leaf_names(tree).items()
    }


def tree_digest(tree: Any) -> dict[str, UInt32[AnyArray, "2"]]:
    """Computes two 32-bit checksums of every leaf from its bits.

    Each element's bits are combined with its position, mixed by a bijection of 32-bit words and
    summed modulo 2**32. The sum does not depend on order, so the digest is the same however the
    array is sharded, and no reshape or gather moves a shard. One changed element always changes
    both sums, because the mixing is a bijection. The mixing also tells apart what a weighted sum of
    raw bits cannot: `x` and `-x` swapped differ by 2**31 times an even number, which is zero.

    Args:
        tree: a pytree of arrays of any shape, of 8, 16 or 32 bits an element or bool, and typed
            PRNG keys; Python's bool, int and float count as the jax scalars they become.

    Returns:
        For the path of each leaf its checksums, uint32 of shape (2,).

    Raises:
        ValueError: a leaf is not an array of at most 32 bits an element; the leaf is named.
    """
    leaves = leaf_names(tree)
    for name, leaf in leaves.items():
        _check(name, leaf)
    digests = {}
    for name, leaf in leaves.items():
        digests[name] = _host_digest(leaf) if isinstance(leaf, np.ndarray) else _leaf_digest(leaf)
        traced = isinstance(leaf, jax.core.Tracer)
        if isinstance(leaf, jax.Array) and not traced and not leaf.is_fully_replicated:
            # A sum over devices. On CPU many of them in flight wait for each other forever.
            jax.block_until_ready(digests[name])
    return digests


def _check(name: str, leaf: Any) -> None:
    if type(leaf) in (bool, int, float):  # not numpy.float64, which is a float too
        return
    dtype = getattr(leaf, "dtype", None)
    if dtype is not None and jax.dtypes.issubdtype(dtype, jax.dtypes.prng_key):
        return
    supported = dtype is not None and (
        jnp.issubdtype(dtype, jnp.bool_)
        or (jnp.issubdtype(dtype, jnp.number) and np.dtype(dtype).itemsize in _UNSIGNED)
    )
    # Types narrower than a byte are stored as one; their bits cannot be cast to a whole byte.
    if not supported or "int4" in str(dtype) or "int2" in str(dtype):
        raise ValueError(
            f"leaf {name!r}: expected an array of 8, 16 or 32 bits an element, a bool or a PRNG "
            f"key; got {type(leaf).__name__} of dtype {dtype}. Convert it before it is saved."
        )


# Compiled once a shape: a state has many arrays of each shape, its optimizer's moments among them.
@jax.jit
def _leaf_digest(leaf: Any) -> UInt32[Array, "2"]:
    x = jnp.asarray(leaf)
    if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key):
        x = jax.random.key_data(x)
    if x.dtype == jnp.bool_:
        bits = x.astype(jnp.uint32)
    else:
        unsigned = _UNSIGNED[x.dtype.itemsize]
        bits = jax.lax.bitcast_convert_type(x, unsigned).astype(jnp.uint32)
    position = jnp.zeros(x.shape, jnp.uint32)
    for axis in range(x.ndim):
        stride = np.uint32(math.prod(x.shape[axis + 1 :]) % 2**32)
        position += jax.lax.broadcasted_iota(jnp.uint32, x.shape, axis) * stride
    return jnp.stack(
        [
            jnp.sum(_mix(bits ^ (position * np.uint32(weight)), mixer), dtype=jnp.uint32)
            for weight, mixer in _MIXERS
        ]
    )


def _host_digest(leaf: np.ndarray) -> UInt32[np.ndarray, "2"]:
    """The same by NumPy, of an array on the host; compiles nothing."""
    unsigned = np.uint8 if leaf.dtype == np.bool_ else _UNSIGNED[leaf.dtype.itemsize]
    bits, sums = np.ascontiguousarray(leaf).reshape(-1).view(unsigned), [0, 0]
    for start in range(0, bits.size, _BLOCK):
        block = bits[start : start + _BLOCK].astype(np.uint32)
        position = np.arange(start, start + block.size).astype(np.uint32)  # modulo 2**32
        for number, (weight, mixer) in enumerate(_MIXERS):
            mixed = _mix(block ^ (position * np.uint32(weight)), mixer)
            sums[number] += int(np.sum(mixed, dtype=np.uint64))
    return np.array([total % 2**32 for total in sums], np.uint32)


def _mix(x: Any, mixer: tuple[int, int, int, int, int]) -> Any:
    first_shift, first, second_shift, second, last_shift = mixer
    x = (x ^ (x >> np.uint32(first_shift))) * np.uint32(first)
    x = (x ^ (x >> np.uint32(second_shift))) * np.uint32(second)
    return x ^ (x >> np.uint32(last_shift))
