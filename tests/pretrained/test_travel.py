"""A tokenizer in other processes and programs: pickled, copied, exported."""

import copy
import pickle
import subprocess
import sys

import jax
import jax.numpy as jnp
import made
import numpy as np
import pytest
from jax import export

from vq_jax import ops

PICTURES = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 1), np.uint8)


@pytest.mark.parametrize("send", [lambda model: pickle.loads(pickle.dumps(model)), copy.deepcopy])
def test_a_copy_of_a_tokenizer_gives_the_same_codes(send):
    tokenizer = made.make_tokenizer()
    other = send(tokenizer)
    assert other.fingerprint == tokenizer.fingerprint and other.config == tokenizer.config
    np.testing.assert_array_equal(other.encode(PICTURES), tokenizer.encode(PICTURES))


def test_a_pickled_prior_keeps_its_tokenizer():
    prior = made.make_prior()
    other = pickle.loads(pickle.dumps(prior))
    assert other.tokenizer.fingerprint == prior.tokenizer.fingerprint
    jax.tree.map(np.testing.assert_array_equal, other.variables, prior.variables)


def test_encode_exports_with_a_batch_of_any_size():
    tokenizer = made.make_tokenizer()
    encode = jax.jit(lambda variables, pictures: tokenizer.model.apply(variables, pictures, method="encode"))
    (batch,) = export.symbolic_shape("b")
    shape = jax.ShapeDtypeStruct((batch, 8, 8, 1), jnp.float32)
    exported = export.export(encode)(tokenizer.variables, shape)
    for number in (1, 3):
        pictures = ops.normalize_pictures(PICTURES[:number])
        found = exported.call(tokenizer.variables, pictures)
        np.testing.assert_array_equal(found, tokenizer.encode(PICTURES[:number]))


@pytest.mark.ci
def test_the_package_runs_as_the_program():
    found = subprocess.run([sys.executable, "-m", "vq_jax", "--version"], capture_output=True, text=True)
    assert found.returncode == 0 and found.stdout.startswith("vq-jax ")
