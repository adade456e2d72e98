"""Whether a run can work at all, judged from shapes alone, before anything is written or allocated."""

import contextlib
import itertools
import logging
import math
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from flax import linen
from jax.sharding import Mesh

from vq_jax.configs.runs import ExperimentConfig, RestorerConfig
from vq_jax.errors import UserError
from vq_jax.host.memory import gibibytes, total_memory
from vq_jax.train.sharding import batch_sharding

State = TypeVar("State")
_log = logging.getLogger("vq_jax")
MOST_LAYERS = 1200
"""Layers of all networks of a run together: each takes time to trace and much more to compile. The largest
preset has about 500."""


@contextlib.contextmanager
def judging() -> Iterator[None]:
    """Turns what fails inside, where networks are only traced, into the user's error.

    Raises:
      UserError: something failed: the networks do not fit together, or do not take such pictures.
    """
    try:
        yield
    except UserError:
        raise
    except ValueError as error:
        raise UserError("\n".join(str(error).splitlines()[:3])) from error
    except Exception as error:
        first = (str(error).splitlines() or [""])[0]
        raise UserError(
            f"this configuration cannot be trained: {type(error).__name__}: {first[:300]}; "
            "change the sizes of its networks or of its pictures"
        ) from error


def abstract_networks(init: Callable[[], State]) -> State:
    """Returns the shapes of the state that a function initialises.

    Args:
      init: the function; it initialises linen modules.

    Raises:
      UserError: the networks do not fit together, do not take such pictures, or have more than `MOST_LAYERS`
        layers; the first layer too many ends the tracing.
    """
    layers = itertools.count(1)

    def count(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
        if next(layers) > MOST_LAYERS:
            part = next(iter(context.module.path), type(context.module).__name__)
            raise UserError(
                f"the networks of this configuration have more than {MOST_LAYERS} layers, the last of them "
                f"in {part}, and each takes time to compile: use fewer blocks, layers or stages"
            )
        return call(*args, **kwargs)

    with judging(), linen.intercept_methods(count):
        return jax.eval_shape(init)


def warn_of_late_losses(config: ExperimentConfig | RestorerConfig) -> None:
    """Warns of losses that start after the run's last step."""
    steps = config.training.steps
    for name, start in config.losses.used_starts().items():
        if start >= steps:
            _log.warning(
                "losses.%s = %d is not below training.steps = %d: this run trains without that loss. "
                "Lower it, give a share of the steps such as 0.5, or raise --steps.",
                *(name, start, steps),
            )


def check_step(mesh: Mesh, step: Any, state: Any, *inputs: Any) -> None:
    """Checks that a step can be taken. The call of the step later finds it traced.

    Args:
      mesh: the devices.
      step: a jitted step of `train.jit`.
      state: shapes and shardings of its state.
      *inputs: those of its other arguments.

    Raises:
      UserError: the networks do not fit together or do not take such pictures, or the state and a batch are
        larger than the memory.
    """
    check_memory(mesh, state, *inputs)
    with judging():
        step.eval_shape(state, *inputs)


def check_memory(mesh: Mesh, *trees: Any) -> None:
    """Checks that arrays fit into the memory of the devices.

    Args:
      mesh: the devices.
      *trees: shapes, dtypes and shardings of arrays that are there at the same time.

    Raises:
      UserError: they are larger than a device's memory, or than the machine's if the devices are its CPU.
    """
    needed = sum(_bytes_on_device(leaf) for leaf in jax.tree.leaves(trees))
    devices = mesh.local_devices
    stats = devices[0].memory_stats() if devices[0].platform != "cpu" else None
    available = stats.get("bytes_limit") if stats else None
    place = "the device has"
    if available is None:
        needed, available, place = needed * len(devices), total_memory(), "this machine has"
    if needed > available:
        raise UserError(
            f"this configuration needs at least {gibibytes(needed)} of memory and {place} "
            f"{gibibytes(available)}: make the model, the batch or the pictures smaller"
        )


def abstract_pictures(batch_size: int, shape: tuple[int, ...], mesh: Mesh) -> jax.ShapeDtypeStruct:
    """Shape and sharding of a batch of pictures uint8 [B, *S, C]."""
    return jax.ShapeDtypeStruct((batch_size, *shape), jnp.uint8, sharding=batch_sharding(mesh))


def _bytes_on_device(leaf: Any) -> int:
    shape = leaf.shape if leaf.sharding is None else leaf.sharding.shard_shape(leaf.shape)
    return int(math.prod(shape) * leaf.dtype.itemsize)
