"""Layers of the transformers: the block against NumPy, widths, parameters."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jitted import apply, drawn, init

from vq_jax import ops
from vq_jax.nn.priors.layers import Block, Layers, RMSNorm, mlp_width


def norm(x, scale):
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6) * scale


@pytest.mark.parametrize("causal", [False, True])
def test_block_matches_numpy(causal):
    x = np.random.default_rng(0).standard_normal((2, 5, 12), np.float32)
    angles = np.asarray(ops.rotary_angles(ops.grid_coordinates((5,)), 6))
    block = Block(num_heads=2, mlp_features=20, causal=causal)
    variables = drawn(block, x, angles, train=False, std=0.3)
    out, _ = apply(block, variables, x, angles, train=False)

    p = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), variables["params"])
    h = np.asarray(x, np.float64)
    qkv = norm(h, p["attention_norm"]["scale"]) @ p["qkv"]["kernel"]
    query, key, value = (part.reshape(2, 5, 2, 6) for part in np.split(qkv, 3, axis=-1))
    turn = np.exp(1j * angles)[None, :, None]

    def rotate(part):
        turned = (part[..., :3] + 1j * part[..., 3:]) * turn
        return np.concatenate([turned.real, turned.imag], axis=-1)

    scores = np.einsum("btaf,bsaf->bats", rotate(query), rotate(key)) / np.sqrt(6)
    if causal:
        scores = np.where(np.tril(np.ones((5, 5), bool)), scores, -np.inf)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    mixed = np.einsum("bats,bsaf->btaf", weights, value).reshape(2, 5, 12)
    h = h + mixed @ p["attention_out"]["kernel"]
    gate, up = np.split(norm(h, p["mlp_norm"]["scale"]) @ p["gate_up"]["kernel"], 2, axis=-1)
    expected = h + (gate / (1 + np.exp(-gate)) * up) @ p["down"]["kernel"]
    np.testing.assert_allclose(out, expected, rtol=1e-4, atol=1e-4)


def test_parameters_are_stacked_and_the_graph_does_not_grow_with_depth(getkey):
    x = jnp.zeros((1, 4, 8))

    def equations(num_layers):
        layers = Layers(num_layers, num_heads=2, mlp_features=16, causal=True)
        variables = jax.eval_shape(functools.partial(layers.init, train=False), getkey(), x, None)
        assert {leaf.shape[0] for leaf in jax.tree.leaves(variables)} == {num_layers}
        return len(str(jax.make_jaxpr(lambda v: layers.apply(v, x, None, train=False))(variables)))

    assert abs(equations(2) - equations(8)) < 20  # number of digits in the shapes


def test_norms_and_blocks_compute_in_half_precision_on_float32_parameters(getkey):
    x = jnp.asarray(np.random.default_rng(0).standard_normal((1, 3, 8)), jnp.bfloat16)
    block = Block(num_heads=2, mlp_features=16, causal=False, dtype=jnp.bfloat16)
    variables = init(block, getkey(), x, None, train=False)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype(jnp.float32)}
    assert apply(block, variables, x, None, train=False)[0].dtype == jnp.bfloat16
    assert apply(RMSNorm(), init(RMSNorm(), getkey(), x), x).dtype == jnp.bfloat16


def test_mlp_width_is_llamas_at_768():
    assert [mlp_width(width) for width in (24, 768, 1024)] == [64, 2048, 2752]
