"""Strict settings for all tests, made before jax first looks for devices."""

import os
import tempfile
from collections.abc import Callable, Iterator

# Runs compile the same steps again and again, in subprocesses too: shared for this session only.
if "PYTEST_XDIST_WORKER" not in os.environ:  # a worker has that of the process which started it
    _CACHE = tempfile.TemporaryDirectory(prefix="vq_jax-tests-")
    os.environ["JAX_COMPILATION_CACHE_DIR"] = _CACHE.name
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"

# Little optimisation: the compiler is most of the time, random numbers most of the compiler's.
os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_backend_optimization_level=1"
os.environ["JAX_NUM_CPU_DEVICES"] = "4"  # for subprocesses; below for this one

import jax  # noqa: E402
import pytest  # noqa: E402

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_num_cpu_devices", 4)
jax.config.update("jax_platforms", "cpu")


@pytest.fixture
def getkey() -> Iterator[Callable[[], jax.Array]]:
    """Returns a function that gives another random key at each call, the same ones in each run."""
    keys = (jax.random.key(number) for number in range(10**6))
    yield lambda: next(keys)
