"""The nearest code among many, by a loop over blocks of the codebook on CPU."""

import jax
import jax.numpy as jnp
import nearest_code
import numpy as np
import pytest

from vq_jax import ops
from vq_jax.ops import codebook


@pytest.mark.parametrize("size", [8, 9, 16, 35])
def test_blocks_give_the_lowest_of_the_nearest_codes(size, monkeypatch):
    monkeypatch.setattr(codebook, "_CPU_BLOCK", 8)
    rng = np.random.default_rng(size)
    z, vectors = (rng.integers(-2, 3, (rows, 2)).astype(np.float32) for rows in (21, size))  # many ties
    expected = np.argmin(np.square(z[:, None] - vectors[None]).sum(-1), axis=1)
    z[3] = np.nan
    found = np.asarray(jax.jit(lambda *inputs: ops.nearest_code(*inputs))(z, vectors))
    assert 0 <= found[3] < size
    np.testing.assert_array_equal(np.delete(found, 3), np.delete(expected, 3))


def test_the_program_does_not_grow_with_the_codebook():
    programs = [
        jax.make_jaxpr(codebook._nearest_blocked)(jnp.zeros((4, 2)), jnp.zeros((size, 2)))
        for size in (2**12, 2**18)
    ]
    assert len(str(programs[0])) == pytest.approx(len(str(programs[1])), rel=0.1)


def test_a_large_codebook_needs_little_memory():
    found = nearest_code.measure(latents=2048, codes=2**15, width=2, repeats=1)
    assert found["temporary_mib"] < 16  # all scores would take 256


def test_the_nearest_of_2_18_codes_to_65536_latents_needs_megabytes():
    latents, codes = (jax.ShapeDtypeStruct((rows, 8), jnp.float32) for rows in (2**16, 2**18))
    program = jax.jit(lambda *inputs: ops.nearest_code(*inputs)).lower(latents, codes).compile()
    # Padded latents, and a block of scores; all scores would take 65,536 MiB.
    assert program.memory_analysis().temp_size_in_bytes < 32 * 2**20
