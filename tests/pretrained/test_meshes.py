"""A loaded model under the mesh of another program."""

import functools

import jax
import made
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import vq_jax
from vq_jax import ops

PICTURES = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 1), np.uint8)


@functools.cache
def codes():
    return made.make_tokenizer().encode(PICTURES)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    directory = tmp_path_factory.mktemp("model")
    made.make_tokenizer().save(directory)
    return directory


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit], ids=["auto", "explicit"])
def test_a_loaded_model_encodes_and_decodes_under_a_mesh_that_is_set(model, kind):
    mesh = jax.make_mesh((4,), ("data",), axis_types=(kind,))
    with jax.set_mesh(mesh):
        tokenizer = vq_jax.load(model)
        found = tokenizer.encode(PICTURES)
        np.testing.assert_array_equal(found, codes())
        assert tokenizer.decode(found).shape == PICTURES.shape
        spread = jax.device_put(PICTURES, NamedSharding(mesh, PartitionSpec("data")))
        encode = lambda variables, pictures: tokenizer.model.apply(  # noqa: E731
            variables, ops.normalize_pictures(pictures), method="encode"
        )
        np.testing.assert_array_equal(jax.jit(encode)(tokenizer.variables, spread), codes())


def test_what_is_loaded_of_a_run_is_on_no_device_for_good(tmp_path):
    made.write_run(tmp_path, steps=(1,))
    assert not any(leaf.committed for leaf in jax.tree.leaves(vq_jax.load(tmp_path).variables))
