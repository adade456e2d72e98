"""The transformer of MaskGIT's authors, converted: the same logits.

The network is written here in NumPy from the published description.
"""

import jax
import jax.numpy as jnp
import numpy as np
from converted_models import TRANSFORMER, saved, transformer
from flax import serialization

import vq_jax
from vq_jax.cli.main import main
from vq_jax.nn import Condition

LAYERS, HEADS, WIDTH, CODES, SIDE = (
    TRANSFORMER[key] for key in ("layers", "heads", "width", "codes", "side")
)
CLASSES = TRANSFORMER["classes"]
ROWS = CODES + CLASSES + 1


def their_logits(flat, rows):
    def norm(x, name):
        x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-12)
        return x * flat[f"{name}/scale"] + flat[f"{name}/bias"]

    def dense(x, name):
        return x @ flat[f"{name}/kernel"] + flat[f"{name}/bias"]

    def gelu(x):
        return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))

    table = flat["Embed_0/word_embeddings/embedding"].astype(np.float64)
    x = norm(table[rows] + flat["Embed_0/position_embeddings/embedding"], "Embed_0/embeddings_ln")
    for index in range(LAYERS):
        attention, mlp = (f"TransformerLayer_{index}/{part}_0" for part in ("Attention", "Mlp"))
        q, k, v = (
            np.einsum("bte,ehf->bthf", x, flat[f"{attention}/self_attention/{name}/kernel"])
            + flat[f"{attention}/self_attention/{name}/bias"]
            for name in ("query", "key", "value")
        )
        scores = np.einsum("bqhf,bkhf->bhqk", q, k) / np.sqrt(WIDTH // HEADS)
        shares = np.exp(scores - scores.max(-1, keepdims=True))
        mixed = np.einsum("bhqk,bkhf->bqhf", shares / shares.sum(-1, keepdims=True), v)
        mixed = np.einsum("bqhf,hfe->bqe", mixed, flat[f"{attention}/self_attention/out/kernel"])
        mixed = mixed + flat[f"{attention}/self_attention/out/bias"]
        x = norm(x + mixed, f"{attention}/attention_output_ln")
        hidden = dense(gelu(dense(x, f"{mlp}/intermediate_output")), f"{mlp}/layer_output")
        x = norm(x + hidden, f"{mlp}/layer_output_ln")
    hidden = norm(gelu(dense(x, "MlmLayer_0/mlm_dense")), "MlmLayer_0/mlm_ln")
    return hidden @ table.T + flat["MlmLayer_0/mlm_bias/bias"]


def test_logits_are_theirs(tmp_path):
    saved("taming", tmp_path / "tokenizer")  # 8 codes, 2 pixels a code
    flat, tree = transformer()
    path, place = tmp_path / "maskgit_imagenet256_checkpoint", str(tmp_path / "ours")
    path.write_bytes(serialization.msgpack_serialize({"params": tree}))
    command = ("convert", "maskgit-transformer", str(path), "-o", place, "--image-size", "16")
    assert main([*command, "--tokenizer", str(tmp_path / "tokenizer")]) == 0
    ours = vq_jax.load(place)
    assert (ours.num_classes, ours.image_size) == (CLASSES, 16)
    rng = np.random.default_rng(1)
    codes = rng.integers(0, CODES, (2, SIDE, SIDE)).astype(np.int32)
    mask, labels = rng.random(codes.shape) < 0.5, np.array([1, 4], np.int32)
    rows = np.where(mask, ROWS - 1, codes).reshape(2, -1)
    rows = np.concatenate([labels[:, None] + CODES, rows], axis=1)
    expected = their_logits(flat, rows)[:, 1:, :CODES].reshape(2, SIDE, SIDE, CODES)
    found = jax.jit(ours.model.apply)(
        ours.variables, jnp.asarray(codes), Condition(jnp.asarray(labels)), mask=jnp.asarray(mask)
    )
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert ours.sample(1, labels=2, steps=2).shape == (1, 16, 16, 3)
