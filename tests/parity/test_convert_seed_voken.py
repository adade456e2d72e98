"""Tokenizers of SEED-Voken, Open-MAGVIT2 and IBQ, converted: the same codes and pictures, and the files back.

Open-MAGVIT2's network is written here from the published description; IBQ's is taming's.
"""

import contextlib
import os
import warnings

import jax
import numpy as np
import pytest
from test_convert_taming import WIDTHS, as_theirs, shaken

import vq_jax
from vq_jax.cli.main import main

torch = pytest.importorskip("torch", reason="pip install vq-jax[parity]")
nn, functional = torch.nn, torch.nn.functional

LEVELS, EACH, BITS = (32, 64, 64), 2, 6


class Block(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.norm1, self.norm2 = nn.GroupNorm(32, inputs, 1e-6), nn.GroupNorm(32, outputs, 1e-6)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        if inputs != outputs:
            self.nin_shortcut = nn.Conv2d(inputs, outputs, 1, bias=False)

    def forward(self, x):
        h = self.conv2(functional.silu(self.norm2(self.conv1(functional.silu(self.norm1(x))))))
        return h + (self.nin_shortcut(x) if hasattr(self, "nin_shortcut") else x)


def blocks(inputs, outputs):
    return nn.ModuleList([Block(inputs if index == 0 else outputs, outputs) for index in range(EACH)])


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv_in = nn.Conv2d(3, LEVELS[0], 3, padding=1, bias=False)
        self.down = nn.ModuleList()
        for level, width in enumerate(LEVELS):
            part = nn.Module()
            part.block = blocks(LEVELS[max(level - 1, 0)], width)
            if level < len(LEVELS) - 1:
                part.downsample = nn.Conv2d(width, width, 3, stride=2, padding=1)
            self.down.append(part)
        self.mid_block = blocks(LEVELS[-1], LEVELS[-1])
        self.norm_out, self.conv_out = nn.GroupNorm(32, LEVELS[-1], 1e-6), nn.Conv2d(LEVELS[-1], BITS, 1)

    def forward(self, x):
        x = self.conv_in(x)
        for part in self.down:
            for block in part.block:
                x = block(x)
            x = part.downsample(x) if hasattr(part, "downsample") else x
        for block in self.mid_block:
            x = block(x)
        return self.conv_out(functional.silu(self.norm_out(x)))


class Adaptive(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.gamma, self.beta = nn.Linear(BITS, width), nn.Linear(BITS, width)

    def forward(self, x, latents):
        flat = latents.flatten(2)
        scale, shift = self.gamma((flat.var(-1) + 1e-6).sqrt()), self.beta(flat.mean(-1))
        return functional.group_norm(x, 32, eps=1e-6) * scale[..., None, None] + shift[..., None, None]


class Decoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv_in, width = nn.Conv2d(BITS, LEVELS[-1], 3, padding=1), LEVELS[-1]
        self.mid_block, parts, norms = blocks(width, width), [], []
        for level in reversed(range(len(LEVELS))):
            part = nn.Module()
            norms.append(Adaptive(width))
            part.block, width = blocks(width, LEVELS[level]), LEVELS[level]
            if level > 0:
                part.upsample = nn.Module()
                part.upsample.conv1 = nn.Conv2d(width, 4 * width, 3, padding=1)
            parts.append(part)
        self.up, self.adaptive = nn.ModuleList(parts[::-1]), nn.ModuleList(norms[::-1])
        self.norm_out, self.conv_out = nn.GroupNorm(32, width, 1e-6), nn.Conv2d(width, 3, 3, padding=1)

    def forward(self, latents):
        x = self.conv_in(latents)
        for block in self.mid_block:
            x = block(x)
        for part, norm in reversed(list(zip(self.up, self.adaptive, strict=True))):
            x = norm(x, latents)
            for block in part.block:
                x = block(x)
            if hasattr(part, "upsample"):  # channels to space: the offsets come before the channels
                x = part.upsample.conv1(x)
                batch, channels, height, width = x.shape
                x = x.reshape(batch, 2, 2, channels // 4, height, width).permute(0, 3, 4, 1, 5, 2)
                x = x.reshape(batch, channels // 4, 2 * height, 2 * width)
        return self.conv_out(functional.silu(self.norm_out(x)))


def magvit2():
    model = nn.Module()
    model.encoder, model.decoder = Encoder(), Decoder()

    def codes_of(given):
        latents = model.encoder(given).permute(0, 2, 3, 1)
        return latents, ((latents > 0) * 2 ** torch.arange(BITS)).sum(-1)

    def decoded(codes):
        signs = (((codes[..., None] >> torch.arange(BITS)) & 1) * 2 - 1).float()
        return model.decoder(signs.permute(0, 3, 1, 2))

    return model, codes_of, decoded


def ibq():
    with warnings.catch_warnings(), open(os.devnull, "w") as null, contextlib.redirect_stdout(null):
        warnings.simplefilter("ignore")  # of their imports
        from taming.modules.diffusionmodules import model as taming

        model = nn.Module()
        model.encoder, model.decoder = taming.Encoder(**WIDTHS), taming.Decoder(**WIDTHS)
    model.quant_conv, model.post_quant_conv = nn.Conv2d(16, 8, 1), nn.Conv2d(8, 16, 1)
    model.quantize = nn.Module()
    model.quantize.embedding = nn.Embedding(64, 8)
    table = model.quantize.embedding.weight

    def codes_of(given):
        latents = model.quant_conv(model.encoder(given)).permute(0, 2, 3, 1)
        return latents, (latents @ table.T).argmax(-1)

    return (
        model,
        codes_of,
        lambda codes: model.decoder(model.post_quant_conv(table[codes].permute(0, 3, 1, 2))),
    )


@pytest.mark.parametrize("averages", [False, True])
@pytest.mark.parametrize("name", ["open-magvit2", "ibq"])
def test_codes_and_pictures_are_theirs_and_the_file_comes_back(name, averages, tmp_path):
    torch.manual_seed(0)
    theirs, codes_of, decoded_of = {"open-magvit2": magvit2, "ibq": ibq}[name]()
    shaken(theirs)
    state = theirs.state_dict()
    saved = dict(state)
    if averages:  # the plain weights are others then, and the averages are what is converted
        saved = {key: tensor + 1 for key, tensor in state.items()}
        saved |= {f"model_ema.{key.replace('.', '')}": tensor for key, tensor in state.items()}
        saved["model_ema.decay"] = torch.tensor(0.999)
    saved["loss.discriminator.main.0.weight"] = torch.zeros(2, 3, 4, 4)
    torch.save({"state_dict": saved}, tmp_path / "their.ckpt")
    pictures = np.random.default_rng(0).integers(0, 256, (2, 32, 24, 3), np.uint8)
    given, place = as_theirs(pictures), str(tmp_path / "ours")
    assert main(["convert", name, str(tmp_path / "their.ckpt"), "-o", place, "--image-size", "32"]) == 0
    ours = vq_jax.load(place)
    with torch.no_grad():
        latents, codes = codes_of(given)
        decoded = decoded_of(codes)
    assert np.array_equal(ours.encode(pictures), codes.numpy())
    apply = jax.jit(ours.model.apply, static_argnames="method")
    found = apply(ours.variables, np.asarray(given).transpose(0, 2, 3, 1), method="encode_latents")
    np.testing.assert_allclose(found, latents, atol=1e-4)
    found = apply(ours.variables, codes.numpy().astype(np.int32), method="decode")
    np.testing.assert_allclose(found, decoded.permute(0, 2, 3, 1), atol=1e-4)
    assert main(["export", place, "--to", name, "-o", str(tmp_path / "back.ckpt")]) == 0
    back = torch.load(tmp_path / "back.ckpt", weights_only=True)["state_dict"]
    assert set(back) == set(state) and all(torch.equal(back[key], state[key]) for key in state)
