"""A tokenizer of two grids, from coarse to fine, the fine one with two codes a position."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cli_runs import pictures
from flax import linen as nn
from jitted import apply, init
from made import tokenizer_config

from vq_jax import ops
from vq_jax.errors import UserError
from vq_jax.nn import VectorQuantizer, VQModel
from vq_jax.nn.quantizers.base import QuantizerOutput
from vq_jax.pretrained.tokenizer import Tokenizer
from vq_jax.types import CodeSpec


class Encoder(nn.Module):
    """Means over squares of 4 and of 2 pixels."""

    def strides(self, axes):
        return (4,) * axes

    @nn.compact
    def __call__(self, images, *, train=False):
        def mean(side):
            batch, height, width, channels = images.shape
            squares = images.reshape(batch, height // side, side, width // side, side, channels)
            return squares.mean((2, 4))

        return mean(4), jnp.concatenate([mean(2), mean(2) * 0.5], axis=-1)


class Quantizer(nn.Module):
    """A quantizer a grid; that of the fine grid quantizes both halves of a latent."""

    def setup(self):
        self.coarse, self.fine = VectorQuantizer(8, 1), VectorQuantizer(16, 1)

    def __call__(self, z, *, train=False):
        coarse, fine = self.coarse(z[0]), self.fine(z[1][..., None])
        return QuantizerOutput(
            (coarse.quantized, fine.quantized[..., 0]),
            (coarse.indices, fine.indices),
            coarse.loss + fine.loss,
            {},
        )

    def lookup(self, indices):
        return self.coarse.lookup(indices[0]), self.fine.lookup(indices[1])[..., 0]

    @nn.nowrap
    def code_spec(self, shapes):
        return CodeSpec(shapes[0][:-1], 8), CodeSpec(shapes[1][:-1], 16, 2)


class Decoder(nn.Module):
    """Repeats the pixels of both grids and adds them."""

    @nn.compact
    def __call__(self, latents, *, train=False):
        scale = self.param("scale", nn.initializers.ones, ())

        def grow(grid, side):
            return jnp.repeat(jnp.repeat(grid, side, 1), side, 2)

        return scale * grow(latents[0], 4) + grow(latents[1].mean(-1, keepdims=True), 2)


@pytest.fixture(scope="module")
def tokenizer():
    model = VQModel(Encoder(), Quantizer(), Decoder())
    variables = init(model, jax.random.key(0), np.zeros((1, 8, 8, 1), np.float32))
    return Tokenizer(model, variables, tokenizer_config(), 1)


def test_both_grids_go_through_the_codes(tokenizer):
    given = pictures(3, 7, 8, 1)
    coarse, fine = tokenizer.encode(given)
    assert (coarse.shape, fine.shape) == ((3, 2, 2), (3, 4, 4, 2))
    assert coarse.dtype == fine.dtype == np.int32
    decoded = tokenizer.decode((coarse, fine), size=(7, 8))
    assert decoded.shape == given.shape
    np.testing.assert_array_equal(tokenizer.reconstruct(given), decoded)
    np.testing.assert_array_equal(tokenizer.decode([coarse, fine]), tokenizer.decode((coarse, fine)))
    padded = np.pad(given, [(0, 0), (0, 1), (0, 0), (0, 0)], mode="edge")
    output = apply(tokenizer.model, tokenizer.variables, ops.normalize_pictures(padded))
    np.testing.assert_array_equal(fine, output.indices[1])
    assert tokenizer.code_specs(8) == (CodeSpec((2, 2), 8), CodeSpec((4, 4), 16, 2))


COARSE, FINE = np.zeros((1, 2, 2), int), np.zeros((1, 4, 4, 2), int)


@pytest.mark.parametrize(
    "codes, message",
    [
        (COARSE, "expected 2 grids of codes from coarse to fine"),
        ((COARSE,), "expected 2 grids of codes"),
        ((COARSE + 8, FINE), "codes from 0 to 7 for this model's codebook in grid 0, got 8 to 8"),
        ((COARSE, FINE.astype(float)), "expected integer codes in grid 1, got float64"),
        ((COARSE, FINE[..., :1]), r"codes of shape \[B, 4, 4, 2\] or of other spatial size in grid 1"),
        ((COARSE, FINE[:, :3]), "are not those of one picture"),
    ],
)
def test_other_codes_are_refused(codes, message, tokenizer):
    with pytest.raises(UserError, match=message):
        tokenizer.decode(codes)
