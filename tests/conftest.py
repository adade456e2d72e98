"""Strict settings for all tests, made before jax first looks for devices."""

import os
from collections.abc import Callable, Iterator

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import jax
import pytest

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_num_cpu_devices", 4)
jax.config.update("jax_platforms", "cpu")


@pytest.fixture
def getkey() -> Iterator[Callable[[], jax.Array]]:
    """Returns a function that gives another random key at each call, the same ones in each run."""
    keys = (jax.random.key(number) for number in range(10**6))
    yield lambda: next(keys)
