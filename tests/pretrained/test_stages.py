"""Pictures from the codes of the first stages, or scales, alone."""

import dataclasses
import functools

import jax
import numpy as np
import pytest
from cli_runs import pictures
from jitted import apply, init
from made import make_tokenizer, tokenizer_config
from PIL import Image

from vq_jax.cli.main import main
from vq_jax.configs import (
    GroupedQuantizerConfig,
    MultiScaleQuantizerConfig,
    ResidualFSQConfig,
    ResidualQuantizerConfig,
    VectorQuantizerEMAConfig,
)
from vq_jax.errors import UserError
from vq_jax.pretrained.build import build_model
from vq_jax.pretrained.tokenizer import Tokenizer

_RESIDUAL = ResidualQuantizerConfig(VectorQuantizerEMAConfig(codebook_size=8, code_dim=4), num_stages=3)
QUANTIZERS = {
    "residual": _RESIDUAL,
    "residual_fsq": ResidualFSQConfig((5, 3, 3, 3), num_stages=3),
    "grouped": GroupedQuantizerConfig(_RESIDUAL),
    "multi_scale": MultiScaleQuantizerConfig(codebook_size=8, code_dim=4, scales=(1, 2, 4)),
}


@functools.cache
def tokenizer_of(name):
    """A tokenizer with random weights, of pictures of 8 x 8, and its codes of two pictures."""
    config = tokenizer_config()
    config = dataclasses.replace(
        config, model=dataclasses.replace(config.model, quantizer=QUANTIZERS[name]), name=name
    )
    model = build_model(config)
    variables = init(model, jax.random.key(0), np.zeros((1, 8, 8, 1), np.float32))
    tokenizer = Tokenizer(model, variables, config, 1)
    return tokenizer, tokenizer.encode(pictures(2, 8, 8, 1))


@pytest.mark.parametrize("name", sorted(QUANTIZERS))
def test_the_first_stages_decode_alone_and_all_of_them_as_before(name):
    tokenizer, codes = tokenizer_of(name)
    np.testing.assert_array_equal(tokenizer.decode(codes, stages=3), tokenizer.decode(codes))
    found = tokenizer.decode(codes, stages=2)
    # The codes of the last stage are not read.
    grids = list(codes) if name == "multi_scale" else [codes]
    last = ... if name == "multi_scale" else (..., slice(2, None, 3))
    other = [np.array(grid) for grid in grids]
    other[-1][last] = (other[-1][last] + 1) % 8
    other = tuple(other) if name == "multi_scale" else other[0]
    np.testing.assert_array_equal(found, tokenizer.decode(other, stages=2))
    assert (tokenizer.decode(other) != tokenizer.decode(codes)).any() and (
        found != tokenizer.decode(codes)
    ).any()


def test_pictures_are_those_of_the_vectors_of_the_first_stages():
    tokenizer, codes = tokenizer_of("residual")
    model, variables = tokenizer.model, tokenizer.variables
    pixels = apply(model, variables, jax.numpy.asarray(codes[..., :2]), method="decode")
    expected = np.clip(np.round((np.asarray(pixels) + 1) * 127.5), 0, 255)
    np.testing.assert_allclose(tokenizer.decode(codes, stages=2), expected, atol=1)
    given = pictures(2, 8, 8, 1)
    np.testing.assert_array_equal(
        tokenizer.reconstruct(given, stages=2), tokenizer.decode(tokenizer.encode(given), stages=2)
    )


@pytest.mark.parametrize("stages", [0, 4, -1])
@pytest.mark.parametrize("name", ["residual", "multi_scale"])
def test_stages_that_are_not_there_are_refused(name, stages):
    tokenizer, codes = tokenizer_of(name)
    message = f"expected 1 to 3 stages, those of the quantizer of {name}, got {stages}"
    with pytest.raises(UserError, match=message):
        tokenizer.decode(codes, stages=stages)
    with pytest.raises(UserError, match=message):
        tokenizer.reconstruct(pictures(1, 8, 8, 1), stages=stages)


def test_a_quantizer_without_stages_says_so():
    with pytest.raises(UserError, match="got 2: the quantizer of small, ema, has no stages"):
        make_tokenizer().decode(np.zeros((1, 4), int), stages=2)


def test_the_commands_take_a_number_of_stages_and_refuse_more(tmp_path, capsys):
    tokenizer, _ = tokenizer_of("residual")
    model, given = str(tmp_path / "model"), pictures(1, 8, 8, 1)
    tokenizer.save(model)
    Image.fromarray(given[0, ..., 0]).save(tmp_path / "a.png")
    codes, out = str(tmp_path / "codes.npz"), tmp_path / "out"
    assert main(["encode", model, str(tmp_path / "a.png"), "-o", codes]) == 0
    assert main(["decode", model, codes, "-o", str(out), "--stages", "1"]) == 0
    decoded = np.asarray(Image.open(out / "a.png"))
    np.testing.assert_array_equal(decoded, tokenizer.reconstruct(given, stages=1)[0, ..., 0])
    capsys.readouterr()
    for command, source in (("decode", codes), ("reconstruct", str(tmp_path / "a.png"))):
        assert main([command, model, source, "-o", str(tmp_path / "more"), "--stages", "4"]) == 2
        assert "expected 1 to 3 stages" in capsys.readouterr().err and not (tmp_path / "more").exists()
