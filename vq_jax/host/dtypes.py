"""The dtype that this machine computes in."""

from typing import Any

import jax
import jax.numpy as jnp


def compute_dtype(name: str) -> Any:
    """The dtype of `training.dtype`; auto is bfloat16 where the hardware multiplies it fast, else float32."""
    if name != "auto":
        return jnp.dtype(name)
    device = jax.devices()[0]
    fast = device.platform == "tpu" or (
        device.platform == "gpu" and float(getattr(device, "compute_capability", 0.0)) >= 8.0
    )
    return jnp.dtype("bfloat16" if fast else "float32")
