"""A quantizer with several codes a position: its codes train the depth transformer, in a run of a prior."""

import dataclasses
from typing import ClassVar

import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen
from prior_runs import labelled_file, prior_config
from runs import small_config

import vq_jax
from vq_jax import nn
from vq_jax.configs.quantizer_base import CodebookQuantizerConfig
from vq_jax.configs.quantizers import QUANTIZERS
from vq_jax.errors import UserError
from vq_jax.train import train
from vq_jax.types import CodeSpec


class Pair(linen.Module):
    """Two codebooks, one for each half of a latent: two codes a position."""

    codebook_size: int
    code_dim: int

    def setup(self):
        self.halves = [nn.VectorQuantizerEMA(self.codebook_size, self.code_dim // 2) for _ in range(2)]

    def __call__(self, z, *, train=False):
        outputs = [
            half(part, train=train) for half, part in zip(self.halves, jnp.split(z, 2, -1), strict=True)
        ]
        first = outputs[0]
        return dataclasses.replace(
            first,
            quantized=jnp.concatenate([output.quantized for output in outputs], axis=-1),
            indices=jnp.stack([output.indices for output in outputs], axis=-1),
            loss=outputs[0].loss + outputs[1].loss,
        )

    def lookup(self, indices):
        return jnp.concatenate(
            [half.lookup(indices[..., number]) for number, half in enumerate(self.halves)], axis=-1
        )

    @linen.nowrap
    def code_spec(self, latent_shape):
        return CodeSpec(latent_shape[:-1], self.codebook_size, 2)


@dataclasses.dataclass(frozen=True)
class PairConfig(CodebookQuantizerConfig):
    """Configuration of `Pair`."""

    name: ClassVar[str] = "pair"

    def build(self):
        return Pair(self.codebook_size, self.code_dim)


@pytest.mark.ci
def test_priors_of_several_codes_train_on_the_codes_of_a_run(tmp_path, monkeypatch):
    monkeypatch.setitem(QUANTIZERS, "pair", PairConfig)
    small = small_config(steps=2)
    tokenizer = dataclasses.replace(
        small,
        model=dataclasses.replace(small.model, quantizer=PairConfig(codebook_size=16, code_dim=4)),
        data=dataclasses.replace(small.data, source=f"arrays:{labelled_file()}"),
    )
    train(tokenizer, tmp_path / "tokenizer")
    config = prior_config(kind="gpt", tokenizer=tmp_path / "tokenizer", steps=2)
    config = dataclasses.replace(config, prior=dataclasses.replace(config.prior, depth_layers=3))
    result = train(config, tmp_path / "prior")
    assert result.step == 2 and np.isfinite(result.figures["validation/bits_per_code"])
    prior = vq_jax.load(tmp_path / "prior")
    assert prior.model.codes_per_position == 2 and prior.model.depth_layers == 3
    depth = [name for name in prior.variables["params"] if "depth" in name]
    assert depth, prior.variables["params"].keys()
    codes = prior.sample_codes(2, labels=[0, 1])
    assert codes.shape == (2, 4, 4, 2) and codes.min() >= 0 and codes.max() < 16
    wide = {"width": 12}  # rotary angles take two channels of a head for each axis
    maskgit = prior_config(tokenizer=tmp_path / "tokenizer", prior=wide, steps=2)
    result = train(maskgit, tmp_path / "maskgit")
    assert result.step == 2
    assert vq_jax.load(tmp_path / "maskgit").sample_codes(1, labels=[0]).shape == (1, 4, 4, 2)
    pixelcnn = prior_config(kind="pixelcnn", tokenizer=tmp_path / "tokenizer")
    message = "models one code per position, but the tokenizer has 2: use gpt, maskgit, masked-cnn"
    with pytest.raises(UserError, match=message):
        train(pixelcnn, tmp_path / "pixelcnn")
