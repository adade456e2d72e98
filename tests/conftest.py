"""Strict settings for all tests, made before jax first looks for devices."""

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

TESTS = Path(__file__).parent
# The files that take longest, the longest first: no worker is left alone with one of them at the end.
SLOWEST = (
    "runs/test_distributed.py",
    "pretrained/test_generation.py",
    "train/test_loop.py",
    "cli/test_cli.py",
    "train/test_prior_run.py",
    "train/test_quantizer_runs.py",
    "train/test_adversarial_steps.py",
    "nn/test_quantizer_contract.py",
    "nn/priors/test_gpt.py",
    "train/test_steps.py",
    "test_two_grids.py",
    "test_readme.py",
    "nn/test_cnn.py",
    "runs/test_checkpoint.py",
    "train/test_kinds.py",
    "test_as_a_library.py",
    "train/test_fsdp.py",
    "train/test_prior_step.py",
    "nn/priors/test_maskgit.py",
    "generate/test_autoregressive.py",
    "generate/test_masked.py",
    "train/test_noise_step.py",
    "nn/priors/test_pixelcnn.py",
    "nn/test_perceptual.py",
    "train/test_sharding.py",
    "data/test_pipeline.py",
)

# Runs compile the same steps again and again, in subprocesses too: shared for this session, or as long as the
# folder lasts that a person names.
if "PYTEST_XDIST_WORKER" not in os.environ:  # a worker has that of the process which started it
    _SESSION = tempfile.TemporaryDirectory(prefix="vq_jax-tests-")
    os.environ["VQ_JAX_TESTS_SESSION"] = _SESSION.name
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", f"{_SESSION.name}/programs")
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"  # of subprocesses: all have the same
os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"

# Hardly any optimisation: the compiler is most of the time, and what it compiles here is small. Programs that
# run long or must round the same ask for more, see optimised.py.
_FLAGS = "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false"
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {_FLAGS}"
os.environ["JAX_NUM_CPU_DEVICES"] = "4"  # for subprocesses; below for this one

import jax  # noqa: E402
import pytest  # noqa: E402
from programs import share_programs  # noqa: E402

share_programs()
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.05)  # this one compiles small ones once
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_num_cpu_devices", 4)
jax.config.update("jax_platforms", "cpu")


def pytest_configure(config: pytest.Config) -> None:
    """Keeps pytest-xdist from giving out files with many tests first."""
    if hasattr(config.option, "loadscopereorder"):
        config.option.loadscopereorder = False


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts the slowest files first."""
    places = {TESTS / name: place for place, name in enumerate(SLOWEST)}
    items.sort(key=lambda item: places.get(item.path, len(places)))


@pytest.fixture
def getkey() -> Iterator[Callable[[], jax.Array]]:
    """Returns a function that gives another random key at each call, the same ones in each run."""
    keys = (jax.random.key(number) for number in range(10**6))
    yield lambda: next(keys)
