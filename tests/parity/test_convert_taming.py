"""Checkpoints of taming-transformers, converted: the same codes and pictures, and the same file back."""

import contextlib
import os
import warnings

import jax
import numpy as np
import pytest

import vq_jax
from vq_jax.cli.main import main
from vq_jax.pretrained.model_directory import open_model

torch = pytest.importorskip("torch", reason="pip install vq-jax[parity]")
pytest.importorskip("taming", reason="pip install vq-jax[parity]")

WIDTHS = {
    **{"ch": 32, "out_ch": 3, "ch_mult": (1, 2, 2), "num_res_blocks": 1, "attn_resolutions": [8]},
    **{"resolution": 32, "in_channels": 3, "z_channels": 16, "double_z": False, "dropout": 0.0},
}


def shaken(module):
    """Norms that scale and shift, and codes apart, as in trained models."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
        for buffer in module.buffers():
            if buffer.dtype == torch.float32:
                buffer.add_(0.1 * torch.rand_like(buffer))
    return module.eval()


@pytest.fixture(scope="module")
def models():
    """Their modules, composed as in their VQModel and GumbelVQ, whose own file needs an older Lightning."""
    with warnings.catch_warnings(), open(os.devnull, "w") as null, contextlib.redirect_stdout(null):
        warnings.simplefilter("ignore")  # of their imports
        from taming.modules.diffusionmodules.model import Decoder, Encoder
        from taming.modules.discriminator.model import NLayerDiscriminator
        from taming.modules.vqvae.quantize import GumbelQuantize, VectorQuantizer2

        def composed(quantize, width):
            model = torch.nn.Module()
            model.encoder, model.decoder = Encoder(**WIDTHS), Decoder(**WIDTHS)
            model.quantize = quantize
            model.quant_conv = torch.nn.Conv2d(16, width, 1)
            model.post_quant_conv = torch.nn.Conv2d(width, 16, 1)
            model.loss = torch.nn.Module()
            return model

        torch.manual_seed(0)
        plain = composed(VectorQuantizer2(64, 8, beta=0.25), 8)
        plain.loss.discriminator = NLayerDiscriminator(3, 8, 2)
        return {"plain": shaken(plain), "gumbel": shaken(composed(GumbelQuantize(16, 16, 64), 16))}


@pytest.fixture(scope="module")
def pictures():
    return np.random.default_rng(0).integers(0, 256, (2, 32, 24, 3), np.uint8)


def as_theirs(pictures):
    return torch.from_numpy(pictures.transpose(0, 3, 1, 2).astype(np.float32) / 127.5 - 1.0)


@pytest.mark.parametrize("name", ["plain", "gumbel"])
def test_codes_and_pictures_are_theirs_and_the_file_comes_back(name, models, pictures, tmp_path):
    theirs, given = models[name], as_theirs(pictures)
    state = theirs.state_dict()
    if name == "plain":
        state["quantize.used"] = torch.arange(0, 64, 2)  # of a model whose codes are renumbered
    torch.save({"state_dict": state, "global_step": 5, "callbacks": {}}, tmp_path / "their.ckpt")
    place = str(tmp_path / "ours")
    assert main(["convert", "taming", str(tmp_path / "their.ckpt"), "-o", place, "--image-size", "32"]) == 0
    ours = vq_jax.load(place)
    assert ours.step == 5 and ours.config.name == "their"
    with torch.no_grad():
        latents = theirs.quant_conv(theirs.encoder(given))
        if name == "gumbel":  # theirs draws noise here; codes are the largest logits without it
            codes, table = theirs.quantize.proj(latents).argmax(1), theirs.quantize.embed
        else:
            codes, table = theirs.quantize(latents)[2][2].reshape(2, 8, 6), theirs.quantize.embedding
        decoded = theirs.decoder(theirs.post_quant_conv(table(codes).permute(0, 3, 1, 2)))
    assert np.array_equal(ours.encode(pictures), codes.numpy())
    apply = jax.jit(ours.model.apply, static_argnames="method")
    images = np.asarray(given).transpose(0, 2, 3, 1)
    found = apply(ours.variables, images, method="encode_latents")
    np.testing.assert_allclose(found, latents.permute(0, 2, 3, 1), atol=1e-4)
    found = apply(ours.variables, codes.numpy().astype(np.int32), method="decode")
    np.testing.assert_allclose(found, decoded.permute(0, 2, 3, 1), atol=1e-4)
    assert main(["export", place, "--to", "taming", "-o", str(tmp_path / "back.ckpt")]) == 0
    back = torch.load(tmp_path / "back.ckpt", weights_only=True)["state_dict"]
    assert set(back) == set(state)
    assert all(torch.equal(back[key], state[key]) and back[key].dtype == state[key].dtype for key in state)


def test_the_discriminator_is_theirs(models, pictures, tmp_path):
    theirs, given = models["plain"], as_theirs(pictures)
    torch.save({"state_dict": theirs.half().state_dict()}, tmp_path / "their.ckpt")  # half precision, too
    theirs.float()
    place = str(tmp_path / "ours")
    assert main(["convert", "taming", str(tmp_path / "their.ckpt"), "-o", place, "--image-size", "32"]) == 0
    config = vq_jax.load(place).config
    judge = open_model(place).origin().tree("discriminator")
    with torch.no_grad():
        expected = theirs.loss.discriminator(given).permute(0, 2, 3, 1)
    found = jax.jit(config.discriminator.build().apply)(judge, np.asarray(given).transpose(0, 2, 3, 1))
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert main(["export", place, "--to", "taming", "-o", str(tmp_path / "back.ckpt")]) == 0
    back = torch.load(tmp_path / "back.ckpt", weights_only=True)["state_dict"]
    state = torch.load(tmp_path / "their.ckpt", weights_only=True)["state_dict"]
    assert set(back) == set(state)
    assert all(torch.equal(back[key], state[key]) and back[key].dtype == state[key].dtype for key in state)
