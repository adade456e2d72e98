"""What searches among 2^18 codes need on a TPU, by its compiler's own figures."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

compiles = pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None, reason='needs libtpu: pip install -e ".[plan]", Linux only'
)
SCRIPT = """
import json
from vq_jax.host.chips import parse_slice
from vq_jax.plan.plan import prepare_environment

prepare_environment(parse_slice("v5e:2x2"))
import jax
import jax.numpy as jnp
from jax.experimental import topologies
from jax.sharding import SingleDeviceSharding
from vq_jax import ops

(chip, *_) = topologies.get_topology_desc(platform="tpu", topology_name="v5e:2x2").devices
place = SingleDeviceSharding(chip)

def needs(function, *shapes):
    given = [jax.ShapeDtypeStruct(shape, jnp.float32, sharding=place) for shape in shapes]
    return jax.jit(function).lower(*given).compile().memory_analysis().temp_size_in_bytes / 2**20

def train(z, codebook):
    def loss(z, codebook):
        quantized, _ = ops.propagate_indices(z, codebook)
        return jnp.mean(jnp.square(quantized - z)) + ops.product_entropy(z, codebook, 0.01)
    return jax.value_and_grad(loss, (0, 1))(z, codebook)

print(json.dumps({
    "nearest": needs(ops.nearest_code, (65536, 8), (2**18, 8)),
    "ibq": needs(train, (2048, 8), (2**18, 8)),
}))
"""


@pytest.mark.ci
@compiles
def test_the_nearest_of_many_codes_and_a_pass_of_ibq_need_megabytes_on_tpu():
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("TPU_", "JAX_"))}
    path = os.pathsep.join([str(Path(__file__).parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env={**environment, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    mebibytes = json.loads(done.stdout.splitlines()[-1])
    assert mebibytes["nearest"] < 64  # all distances would take 65,536
    assert mebibytes["ibq"] < 512  # one array of all products would take 2,048
