"""LlamaGen's tokenizer, converted. Its network is taming's under other names; codes have unit length."""

import contextlib
import os
import re
import warnings

import jax
import numpy as np
import pytest
from test_convert_taming import WIDTHS, as_theirs, shaken

import vq_jax
from vq_jax.cli.main import main

torch = pytest.importorskip("torch", reason="pip install vq-jax[parity]")

# Taming's names and LlamaGen's; the decoder's levels, of which the last is 2, are numbered as they run.
RENAMED = (
    (r"^encoder\.down\.(\d)\.block\.", r"encoder.conv_blocks.\1.res."),
    (r"^encoder\.down\.(\d)\.", r"encoder.conv_blocks.\1."),
    (r"^decoder\.up\.(\d)\.block\.", lambda match: f"decoder.conv_blocks.{2 - int(match[1])}.res."),
    (r"^decoder\.up\.(\d)\.", lambda match: f"decoder.conv_blocks.{2 - int(match[1])}."),
    (r"mid\.block_1", "mid.0"),
    (r"mid\.attn_1", "mid.1"),
    (r"mid\.block_2", "mid.2"),
)


def llamagen_name(name):
    for pattern, replacement in RENAMED:
        name = re.sub(pattern, replacement, name)
    return name


@pytest.mark.parametrize("top", ["model", "ema"])
def test_codes_and_pictures_are_theirs_and_the_file_comes_back(top, tmp_path):
    with warnings.catch_warnings(), open(os.devnull, "w") as null, contextlib.redirect_stdout(null):
        warnings.simplefilter("ignore")  # of their imports
        from taming.modules.diffusionmodules.model import Decoder, Encoder

        torch.manual_seed(0)
        theirs = torch.nn.Module()
        theirs.encoder, theirs.decoder = Encoder(**WIDTHS), Decoder(**WIDTHS)
        theirs.quant_conv = torch.nn.Conv2d(16, 8, 1)
        theirs.post_quant_conv = torch.nn.Conv2d(8, 16, 1)
        theirs.embedding = torch.nn.Embedding(64, 8)
        shaken(theirs)
    state = {llamagen_name(name): tensor for name, tensor in theirs.state_dict().items()}
    state["quantize.embedding.weight"] = state.pop("embedding.weight")
    state["quantize.codebook_used"] = torch.zeros(100)
    torch.save({top: state, "steps": 5}, tmp_path / "vq.pt")
    pictures = np.random.default_rng(0).integers(0, 256, (2, 32, 24, 3), np.uint8)
    given, place = as_theirs(pictures), str(tmp_path / "ours")
    assert main(["convert", "llamagen", str(tmp_path / "vq.pt"), "-o", place, "--image-size", "32"]) == 0
    ours = vq_jax.load(place)
    with torch.no_grad():
        latents = theirs.quant_conv(theirs.encoder(given)).permute(0, 2, 3, 1)
        table = torch.nn.functional.normalize(theirs.embedding.weight)
        codes = (torch.nn.functional.normalize(latents, dim=-1) @ table.T).argmax(-1)
        decoded = theirs.decoder(theirs.post_quant_conv(table[codes].permute(0, 3, 1, 2)))
    assert np.array_equal(ours.encode(pictures), codes.numpy())
    apply = jax.jit(ours.model.apply, static_argnames="method")
    found = apply(ours.variables, np.asarray(given).transpose(0, 2, 3, 1), method="encode_latents")
    np.testing.assert_allclose(found, latents, atol=1e-4)
    found = apply(ours.variables, codes.numpy().astype(np.int32), method="decode")
    np.testing.assert_allclose(found, decoded.permute(0, 2, 3, 1), atol=1e-4)
    assert main(["export", place, "--to", "llamagen", "-o", str(tmp_path / "back.pt")]) == 0
    back = torch.load(tmp_path / "back.pt", weights_only=True)[top]
    assert set(back) == set(state) and all(torch.equal(back[key], state[key]) for key in state)
