"""LlamaGen's GPT, converted: the same logits, and the same file back.

The network is written here from the published description.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from converted_models import saved

import vq_jax
from vq_jax.cli.main import main
from vq_jax.nn import Condition

torch = pytest.importorskip("torch", reason="pip install vq-jax[parity]")
functional = torch.nn.functional

WIDTH, LAYERS, HEADS, HIDDEN, CLASSES, CODES, SIDE = 128, 2, 2, 96, 5, 8, 8


def weights():
    shapes = {
        "cls_embedding.embedding_table.weight": (CLASSES + 1, WIDTH),
        "tok_embeddings.weight": (CODES, WIDTH),
        "norm.weight": (WIDTH,),
        "output.weight": (CODES, WIDTH),
    }
    for layer in range(LAYERS):
        shapes |= {
            f"layers.{layer}.attention_norm.weight": (WIDTH,),
            f"layers.{layer}.attention.wqkv.weight": (3 * WIDTH, WIDTH),
            f"layers.{layer}.attention.wo.weight": (WIDTH, WIDTH),
            f"layers.{layer}.ffn_norm.weight": (WIDTH,),
            f"layers.{layer}.feed_forward.w1.weight": (HIDDEN, WIDTH),
            f"layers.{layer}.feed_forward.w3.weight": (HIDDEN, WIDTH),
            f"layers.{layer}.feed_forward.w2.weight": (WIDTH, HIDDEN),
        }
    torch.manual_seed(0)
    return {name: 0.2 * torch.randn(shape) + (len(shape) == 1) for name, shape in shapes.items()}


def rotations():
    """[1 + SIDE^2, head / 2]: complex numbers, zero for the class, of rows and then columns for the codes."""
    quarter = WIDTH // HEADS // 4
    speeds = 10000.0 ** (-torch.arange(quarter) / quarter)
    angles = torch.arange(SIDE)[:, None] * speeds
    grid = torch.cat(
        [angles[:, None].expand(-1, SIDE, -1), angles[None].expand(SIDE, -1, -1)], dim=-1
    ).reshape(SIDE * SIDE, -1)
    return torch.cat([torch.zeros(1, 2 * quarter), torch.exp(1j * grid)])


def their_logits(state, codes, labels):
    tokens = state["tok_embeddings.weight"][codes.flatten(1)[:, :-1]]
    x = torch.cat([state["cls_embedding.embedding_table.weight"][labels][:, None], tokens], dim=1)
    batch, length, _ = x.shape
    turns = rotations()[:length, None]

    def norm(x, name):
        return functional.rms_norm(x, (WIDTH,), state[f"{name}.weight"], eps=1e-5)

    def turned(x):  # neighbouring channels are one complex number
        whole = torch.view_as_complex(x.reshape(*x.shape[:-1], -1, 2)) * turns
        return torch.view_as_real(whole).flatten(-2)

    for layer in range(LAYERS):
        part = {name.removeprefix(f"layers.{layer}."): tensor for name, tensor in state.items()}
        mixed = norm(x, f"layers.{layer}.attention_norm") @ part["attention.wqkv.weight"].T
        q, k, v = mixed.reshape(batch, length, 3, HEADS, -1).unbind(2)
        heads = [part.transpose(1, 2) for part in (turned(q), turned(k), v)]
        mixed = functional.scaled_dot_product_attention(*heads, is_causal=True)
        x = x + mixed.transpose(1, 2).flatten(2) @ part["attention.wo.weight"].T
        h = norm(x, f"layers.{layer}.ffn_norm")
        gated = functional.silu(h @ part["feed_forward.w1.weight"].T) * (h @ part["feed_forward.w3.weight"].T)
        x = x + gated @ part["feed_forward.w2.weight"].T
    return norm(x, "norm") @ state["output.weight"].T


def stepped_logits(prior, codes, condition):
    """The logits as sampling computes them, one code after the other."""
    model, variables = prior.model, prior.variables
    weights, caches = model.sampling_weights(variables), model.init_caches(len(codes))
    step = jax.jit(lambda *given: model.apply(variables, weights, *given, method="step"))
    logits = jax.jit(
        lambda hidden: model.apply(variables, weights, hidden, 0, None, (), method="step_logits")[0]
    )
    flat, found = codes.reshape(len(codes), -1), []
    for position in range(flat.shape[1]):
        before = flat[:, max(position - 1, 0), None]
        hidden, caches = step(before, jnp.int32(position), condition, caches)
        found.append(logits(hidden))
    return np.stack(found, axis=1).reshape(*codes.shape, -1)


def test_logits_are_theirs_and_the_file_comes_back(tmp_path):
    saved("llamagen", tmp_path / "tokenizer")  # 8 codes, 2 pixels a code
    state, place = weights(), str(tmp_path / "ours")
    torch.save({"model": state, "steps": 9}, tmp_path / "c2i.pt")
    command = ["convert", "llamagen-gpt", str(tmp_path / "c2i.pt"), "-o", place]
    assert main([*command, "--image-size", "16"]) == 2  # without its tokenizer
    assert main([*command, "--image-size", "16", "--tokenizer", str(tmp_path / "tokenizer")]) == 0
    ours = vq_jax.load(place)
    assert (ours.num_classes, ours.image_size) == (CLASSES, 16)
    rng = np.random.default_rng(0)
    codes, labels = rng.integers(0, CODES, (2, SIDE, SIDE)), np.array([1, CLASSES])
    expected = their_logits(state, torch.from_numpy(codes), torch.from_numpy(labels)).reshape(
        2, SIDE, SIDE, -1
    )
    condition, codes = Condition(jnp.asarray(labels, jnp.int32)), jnp.asarray(codes, jnp.int32)
    found = jax.jit(ours.model.apply)(ours.variables, codes, condition)
    np.testing.assert_allclose(found, expected, atol=1e-4)
    np.testing.assert_allclose(stepped_logits(ours, codes, condition), expected, atol=1e-4)
    assert main(["export", place, "--to", "llamagen-gpt", "-o", str(tmp_path / "back.pt")]) == 0
    back = torch.load(tmp_path / "back.pt", weights_only=True)["model"]
    assert set(back) == set(state) and all(torch.equal(back[key], state[key]) for key in state)
