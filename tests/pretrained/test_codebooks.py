"""A trained tokenizer with fewer codes, or with a plain table in place of a computed one."""

import dataclasses

import jax
import numpy as np
import pytest
from cli_runs import pictures
from jitted import init
from made import make_tokenizer, tokenizer_config

import vq_jax
from vq_jax.configs import (
    FSQConfig,
    GumbelQuantizerConfig,
    IBQConfig,
    SimVQConfig,
    VectorQuantizerConfig,
    VectorQuantizerEMAConfig,
)
from vq_jax.errors import UserError
from vq_jax.pretrained.build import build_model

SOME = pictures(20, 8, 8, 1)
QUANTIZERS = [
    VectorQuantizerEMAConfig(codebook_size=24, code_dim=4),
    pytest.param(VectorQuantizerConfig(codebook_size=24, code_dim=4), marks=pytest.mark.ci),
    SimVQConfig(codebook_size=24, code_dim=4, frozen_dim=24, use_bias=True),
    pytest.param(IBQConfig(codebook_size=24, code_dim=4), marks=pytest.mark.ci),
    pytest.param(GumbelQuantizerConfig(codebook_size=24, code_dim=4), marks=pytest.mark.ci),
]


def tokenizer_with(quantizer):
    config = tokenizer_config()
    config = dataclasses.replace(config, model=dataclasses.replace(config.model, quantizer=quantizer))
    model = build_model(config)
    variables = init(model, jax.random.key(0), np.zeros((1, 8, 8, 1), np.float32))
    return vq_jax.Tokenizer(model, {"codebook": {}, **variables}, config, 3)


@pytest.mark.parametrize("quantizer", QUANTIZERS, ids=lambda quantizer: quantizer.name)
def test_the_codes_in_use_are_a_smaller_model(quantizer, tmp_path):
    whole = tokenizer_with(quantizer)
    codes = whole.encode(SOME)
    small, used = whole.keep_used(np.bincount(codes.ravel(), minlength=24))
    np.testing.assert_array_equal(used, np.unique(codes))
    assert small.config.model.quantizer.codebook_size == len(used) < 24
    small.save(tmp_path / "small")
    again = vq_jax.load(tmp_path / "small")
    np.testing.assert_array_equal(again.encode(SOME), vq_jax.renumber(codes, used))
    np.testing.assert_array_equal(again.reconstruct(SOME), whole.reconstruct(SOME))
    with pytest.raises(UserError, match="expected codes from 0 to"):
        again.decode(np.full_like(codes, len(used)))


def test_a_code_that_was_not_kept_is_named():
    used = np.array([1, 4, 6])
    np.testing.assert_array_equal(vq_jax.renumber([[6, 1], [4, 4]], used), [[2, 0], [1, 1]])
    with pytest.raises(UserError, match="2 of the codes are not among the 3 that were kept: 0, 9"):
        vq_jax.renumber([1, 9, 0, 9], used)
    with pytest.raises(UserError, match="expected integer codes, got float64"):
        vq_jax.renumber([1.0], used)


@pytest.mark.parametrize(
    "counts, message",
    [
        (np.ones(9), r"each of the 8 codes is used, got shape \(9,\): np.bincount"),
        (np.zeros(8), "with one above zero, got none"),
    ],
)
def test_counts_that_are_not_those_of_the_codes_are_refused(counts, message):
    with pytest.raises(UserError, match=message):
        make_tokenizer().keep_used(counts)


def test_a_quantizer_without_a_codebook_has_no_codes_to_leave_out():
    with pytest.raises(UserError, match="one codebook of vectors, got fsq"):
        tokenizer_with(FSQConfig(levels=(3, 3, 3, 3))).keep_used(np.ones(81))


@pytest.mark.parametrize(
    "fields", [pytest.param({}, marks=pytest.mark.ci), {"normalize": True, "use_bias": True}]
)
def test_a_folded_tokenizer_has_the_same_codes_and_a_plain_table(fields, tmp_path):
    computed = tokenizer_with(SimVQConfig(codebook_size=24, code_dim=4, frozen_dim=6, **fields))
    computed.folded().save(tmp_path / "plain")
    plain = vq_jax.load(tmp_path / "plain")
    assert plain.config.model.quantizer.name == "gradient"
    assert set(plain.variables["params"]["quantizer"]) == {"embedding"}
    np.testing.assert_array_equal(plain.encode(SOME), computed.encode(SOME))
    np.testing.assert_array_equal(plain.reconstruct(SOME), computed.reconstruct(SOME))


def test_a_plain_table_stays_as_it_is():
    tokenizer = make_tokenizer()
    assert tokenizer.folded().fingerprint == tokenizer.fingerprint
