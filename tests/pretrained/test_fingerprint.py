"""The fingerprint of a tokenizer: the same for years, and another for other codes."""

import dataclasses
import hashlib
import json

import numpy as np
import pytest
from etils import epath
from made import make_tokenizer

from vq_jax.configs import MLPVQVAE, PixelCNNArchitecture, PriorConfig
from vq_jax.configs.data import DataConfig
from vq_jax.configs.quantizers import VectorQuantizerConfig, VectorQuantizerEMAConfig
from vq_jax.errors import UserError
from vq_jax.pretrained.fingerprint import fingerprint, old_fingerprint
from vq_jax.pretrained.record import find_tokenizer, make_record, read_record

PICTURES = DataConfig(image_size=8)
MODEL = MLPVQVAE(num_latents=4, quantizer=VectorQuantizerEMAConfig(codebook_size=8, code_dim=4))
VARIABLES = {
    "params": {"encoder": {"kernel": np.arange(6, dtype=np.float32).reshape(2, 3)}},
    "codebook": {"quantizer": {"embedding": np.ones((8, 4), np.float32)}},
}
# The configuration of MODEL as JSON had it before there was a version.
BEFORE = {
    "architecture": "vqvae-mlp",
    "image_channels": 1,
    "quantizer": "ema",
    "codebook_size": 8,
    "code_dim": 4,
    "commitment_weight": 0.25,
    "codebook_weight": 1.0,
    "decay": 0.99,
    "epsilon": 1e-5,
    "normalize": False,
    "revive_threshold": 0.0,
    "entropy_weight": 0.0,
    "entropy_temperature": 0.01,
    "image_size": [28, 28],
    "hidden_features": [256, 128],
    "num_latents": 4,
}


def hash_of(values):
    """The hash of a configuration with VARIABLES, written out."""
    digest = hashlib.sha256(json.dumps(values, sort_keys=True).encode())
    digest.update(b"['codebook']['quantizer']['embedding'] float32 (8, 4)")
    digest.update(np.ones((8, 4), np.float32).tobytes())
    digest.update(b"['params']['encoder']['kernel'] float32 (2, 3)")
    digest.update(np.arange(6, dtype=np.float32).tobytes())
    return digest.hexdigest()[:32]


def test_the_fingerprint_never_changes():
    assert fingerprint(MODEL, VARIABLES) == "487d24d7ed8858d0b3518980828b64cf"
    quantizer = {"name": "ema", "codebook_size": 8, "code_dim": 4}
    values = {"architecture": "vqvae-mlp", "num_latents": 4, "quantizer": quantizer}
    assert fingerprint(MODEL, VARIABLES) == hash_of(values)


def test_a_new_field_with_a_default_changes_nothing():
    @dataclasses.dataclass(frozen=True)
    class NewQuantizer(VectorQuantizerEMAConfig):
        temperature: float = 1.0

    @dataclasses.dataclass(frozen=True)
    class NewModel(MLPVQVAE):
        dropout: float = 0.0

    new = NewModel(num_latents=4, quantizer=NewQuantizer(codebook_size=8, code_dim=4))
    assert fingerprint(new, VARIABLES) == fingerprint(MODEL, VARIABLES)
    assert fingerprint(dataclasses.replace(new, dropout=0.5), VARIABLES) != fingerprint(MODEL, VARIABLES)


@pytest.mark.parametrize(
    "model",
    [
        dataclasses.replace(MODEL, num_latents=5),
        dataclasses.replace(MODEL, quantizer=VectorQuantizerConfig(codebook_size=8, code_dim=4)),
        MODEL.override(normalize=True),
        MODEL.override(decay=0.5),
    ],
)
def test_another_model_has_another_fingerprint(model):
    assert fingerprint(model, VARIABLES) != fingerprint(MODEL, VARIABLES)


def test_other_weights_have_another_fingerprint():
    other = {**VARIABLES, "params": {"encoder": {"kernel": np.zeros((2, 3), np.float32)}}}
    renamed = {**VARIABLES, "params": {"decoder": VARIABLES["params"]["encoder"]}}
    found = {fingerprint(MODEL, variables) for variables in (VARIABLES, other, renamed)}
    assert len(found) == 3


def test_the_earlier_formula_hashes_every_field_of_then():
    assert old_fingerprint(MODEL, VARIABLES) == hash_of(BEFORE)
    gradient = dataclasses.replace(
        MODEL, quantizer=VectorQuantizerConfig(codebook_size=8, code_dim=4, codebook_weight=0.5)
    )
    assert old_fingerprint(gradient, VARIABLES) == hash_of(
        {**BEFORE, "quantizer": "gradient", "codebook_weight": 0.5}
    )


@pytest.fixture
def tokenizer(tmp_path):
    made = make_tokenizer()
    made.save(tmp_path / "tokenizer")
    return made


def prior_of(tmp_path):
    return PriorConfig(name="prior", prior=PixelCNNArchitecture(), tokenizer=str(tmp_path / "tokenizer"))


def write_old_record(tmp_path, tokenizer, fingerprint):
    """The record of a prior's run from before there was a version."""
    values = {
        "path": "gone",
        "relative": None,
        "fingerprint": fingerprint,
        "step": 3,
        "codebook_size": 8,
        "code_shape": [4],
        "num_classes": None,
        "image_size": 8,
    }
    (tmp_path / "tokenizer.json").write_text(json.dumps(values))


def test_a_record_from_before_is_read_and_stays_valid(tokenizer, tmp_path):
    old = old_fingerprint(tokenizer.config.model, tokenizer.variables)
    assert old != tokenizer.fingerprint
    write_old_record(tmp_path, tokenizer, old)
    record = read_record(tmp_path)
    assert record.specs == tokenizer.code_specs(8)
    found = find_tokenizer(tmp_path, prior_of(tmp_path), record)
    assert found.fingerprint == tokenizer.fingerprint
    # The run goes on by the fingerprint that its data and its cache are known by.
    again = make_record(
        epath.Path(tmp_path), str(tmp_path / "tokenizer"), found, None, PICTURES, before=record
    )
    again.write(epath.Path(tmp_path))
    assert json.loads((tmp_path / "tokenizer.json").read_text())["version"] == 1
    assert read_record(tmp_path).fingerprint == old
    find_tokenizer(tmp_path, prior_of(tmp_path), read_record(tmp_path))


def test_a_record_of_another_tokenizer_is_refused(tokenizer, tmp_path):
    write_old_record(tmp_path, tokenizer, "0" * 32)
    with pytest.raises(UserError, match="is not the one that the model .* was trained on"):
        find_tokenizer(tmp_path, prior_of(tmp_path), read_record(tmp_path))


def test_a_record_that_cannot_be_read_says_why(tokenizer, tmp_path):
    make_record(epath.Path(tmp_path), "somewhere", tokenizer, None, PICTURES).write(epath.Path(tmp_path))
    values = json.loads((tmp_path / "tokenizer.json").read_text())
    assert values["kind"] == "tokenizer-record"
    for change, message in (({"version": 2}, "version 2"), ({"kind": "film"}, "kind 'film'")):
        (tmp_path / "tokenizer.json").write_text(json.dumps(values | change))
        with pytest.raises(UserError, match=message):
            read_record(tmp_path)
