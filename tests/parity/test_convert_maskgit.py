"""The tokenizer of MaskGIT's authors, converted: the same codes and pictures.

The network is written here from the published description, with layers that flax numbers by itself.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import serialization

import vq_jax
from vq_jax.cli.main import main

WIDTHS, EACH, CODES, DIM = (32, 32, 64), 2, 32, 8


class ResBlock(nn.Module):
    features: int

    @nn.compact
    def __call__(self, x):
        h = nn.Conv(self.features, (3, 3), use_bias=False)(nn.swish(nn.GroupNorm()(x)))
        h = nn.Conv(self.features, (3, 3), use_bias=False)(nn.swish(nn.GroupNorm()(h)))
        if x.shape[-1] != self.features:
            x = nn.Conv(self.features, (1, 1), use_bias=False)(h)
        return x + h


class Encoder(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.Conv(WIDTHS[0], (3, 3), use_bias=False)(x)
        for level, width in enumerate(WIDTHS):
            for _ in range(EACH):
                x = ResBlock(width)(x)
            if level < len(WIDTHS) - 1:
                batch, height, width, channels = x.shape
                x = x.reshape(batch, height // 2, 2, width // 2, 2, channels).mean((2, 4))
        for _ in range(EACH):
            x = ResBlock(WIDTHS[-1])(x)
        return nn.Conv(DIM, (1, 1))(nn.swish(nn.GroupNorm()(x)))


class Decoder(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.Conv(WIDTHS[-1], (3, 3))(x)
        for _ in range(EACH):
            x = ResBlock(WIDTHS[-1])(x)
        for level in reversed(range(len(WIDTHS))):
            for _ in range(EACH):
                x = ResBlock(WIDTHS[level])(x)
            if level > 0:
                x = jnp.repeat(jnp.repeat(x, 2, axis=1), 2, axis=2)
                x = nn.Conv(WIDTHS[level], (3, 3))(x)
        return nn.Conv(3, (3, 3))(nn.swish(nn.GroupNorm()(x)))


@pytest.mark.parametrize("top", [True, False])
def test_codes_and_pictures_are_theirs(top, tmp_path):
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (2, 32, 24, 3), np.uint8)
    given = pictures.astype(np.float32) / 255
    latents = np.zeros((2, 8, 6, DIM), np.float32)
    shapes = {
        "encoder": jax.eval_shape(Encoder().init, jax.random.key(0), given)["params"],
        "decoder": jax.eval_shape(Decoder().init, jax.random.key(0), latents)["params"],
        "quantizer": {"codebook": jax.ShapeDtypeStruct((CODES, DIM), jnp.float32)},
    }
    params = jax.tree.map(lambda leaf: (0.1 * rng.normal(size=leaf.shape)).astype(np.float32), shapes)
    path = tmp_path / "tokenizer_imagenet256_checkpoint"
    path.write_bytes(serialization.msgpack_serialize({"params": params} if top else params))
    place = str(tmp_path / "ours")
    assert main(["convert", "maskgit", str(path), "-o", place, "--image-size", "32"]) == 0
    ours = vq_jax.load(place)
    latents = jax.jit(Encoder().apply)({"params": params["encoder"]}, given)
    table = params["quantizer"]["codebook"]
    codes = np.square(np.asarray(latents)[..., None, :] - table).sum(-1).argmin(-1)
    decoded = jax.jit(Decoder().apply)({"params": params["decoder"]}, table[codes])
    assert np.array_equal(ours.encode(pictures), codes)
    apply = jax.jit(ours.model.apply, static_argnames="method")
    found = apply(ours.variables, given * 2 - 1, method="encode_latents")
    np.testing.assert_allclose(found, latents, atol=1e-4)
    found = apply(ours.variables, codes.astype(np.int32), method="decode")
    np.testing.assert_allclose(found, 2 * decoded - 1, atol=1e-4)


def test_there_is_no_way_back(capsys, tmp_path):
    assert main(["export", str(tmp_path), "--to", "maskgit", "-o", str(tmp_path / "x")]) == 2
    assert "files of maskgit are not written; these are: taming" in capsys.readouterr().err
