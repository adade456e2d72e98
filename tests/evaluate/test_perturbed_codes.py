"""Codes are replaced by near ones of the codebook, as often and as near as is said."""

import jax.numpy as jnp
import numpy as np
import pytest

from vq_jax.evaluate import perturbed_codes
from vq_jax.types import CodeSpec


def test_neighbours_are_the_nearest_others_in_order():
    codebook = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
    distances = np.square(codebook[:, None] - codebook[None]).sum(-1) + np.diag(np.full(20, np.inf))
    found = perturbed_codes.nearest_others(jnp.asarray(codebook), 4)
    np.testing.assert_array_equal(found, np.argsort(distances, axis=1)[:, :4])
    assert [perturbed_codes.neighbours(size) for size in (2, 128, 16384)] == [1, 2, 256]


def test_codes_are_replaced_at_the_rate_by_any_of_their_neighbours():
    table = jnp.asarray([[1, 2], [2, 3], [3, 0], [0, 1]], jnp.int32)
    codes = jnp.asarray(np.random.default_rng(0).integers(0, 4, (8, 16, 16)), jnp.int32)
    found = np.asarray(perturbed_codes.perturbed_codes(codes, table, np.int32(0)))
    changed = found != codes
    assert abs(changed.mean() - perturbed_codes.RATE) < 0.04
    apart = (found - np.asarray(codes))[changed] % 4
    assert set(apart) == {1, 2} and abs((apart == 1).mean() - 0.5) < 0.05
    none = perturbed_codes.perturbed_codes(codes, table, np.int32(0), rate=0.0)
    np.testing.assert_array_equal(none, codes)
    # how the pictures are batched does not matter, and no two are perturbed alike
    part = perturbed_codes.perturbed_codes(codes[5:], table, np.int32(5))
    np.testing.assert_array_equal(part, found[5:])
    assert (changed[0] != changed[1]).any()


def test_codes_without_one_codebook_are_refused():
    one = CodeSpec((4, 4), 128)
    assert perturbed_codes.check_perturbable(one) is one
    said = perturbed_codes.perturbation(one)
    assert said == "50% of the codes, drawn at random, replaced by one of the 2 nearest others of 128"
    for specs in ((one, one), CodeSpec((4, 4), 128, 2)):
        with pytest.raises(ValueError, match="one code a position"):
            perturbed_codes.check_perturbable(specs)
    with pytest.raises(ValueError, match="a codebook of 2 to 65536 codes to find the nearest of each, got"):
        perturbed_codes.check_perturbable(CodeSpec((4, 4), 2**18))
