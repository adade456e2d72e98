"""Multi-scale quantization against a NumPy loop; what every quantizer does is in the contract test."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jitted import apply, init

from vq_jax import nn, ops
from vq_jax.nn.quantizers.multi_scale import shared_convolution

FIELDS = {"codebook_size": 16, "code_dim": 4, "scales": (1, 2, 3, 5), "num_convolutions": 2}


def normal(*shape):
    return np.random.default_rng(0).standard_normal(shape, np.float32)


def convolved(h, params, share):
    """(1 - t) h + t conv(h) of [B, H, W, D], zeros around it."""
    kernel, bias = np.asarray(params["Conv_0"]["kernel"], np.float64), np.asarray(params["Conv_0"]["bias"])
    padded = np.pad(h, ((0, 0), (1, 1), (1, 1), (0, 0)))
    height, width = h.shape[1:3]
    total = sum(padded[:, i : i + height, j : j + width] @ kernel[i, j] for i in range(3) for j in range(3))
    return (1 - share) * h + share * (total + bias)


def oracle(quantizer, variables, z, normalize=False):
    """Codes, sums after each scale and the loss, float64."""
    table = np.asarray(variables["params"]["embedding"], np.float64)
    scales, size = quantizer.scales, z.shape[1]
    rest, total, codes, sums, loss = z.astype(np.float64), 0.0, [], [], 0.0
    for number, scale in enumerate(scales):
        area, cubic = ops.area_matrix(size, scale), ops.bicubic_matrix(scale, size)
        down = np.einsum("ih,jw,bhwd->bijd", area, area, rest) if scale < size else rest
        if normalize:
            unit = table / np.linalg.norm(table, axis=-1, keepdims=True)
            found = (down @ unit.T).argmax(-1)
        else:
            found = ((down[..., None, :] - table) ** 2).sum(-1).argmin(-1)
        h = np.einsum("hi,wj,bijd->bhwd", cubic, cubic, table[found]) if scale < size else table[found]
        which = shared_convolution(number, len(scales), quantizer.num_convolutions)
        h = convolved(h, variables["params"][f"convolutions_{which}"], quantizer.convolution_weight)
        total, rest = total + h, rest - h
        codes.append(found)
        sums.append(total)
        loss += (quantizer.commitment_weight + quantizer.codebook_weight) * np.mean((total - z) ** 2)
    return codes, sums, loss / len(scales)


@pytest.mark.parametrize("normalize", [False, True])
def test_codes_sums_and_loss_are_those_of_the_loop(normalize, getkey):
    quantizer = nn.MultiScaleQuantizer(**FIELDS, normalize=normalize, convolution_weight=0.3)
    z = normal(3, 5, 5, 4)
    variables = init(quantizer, getkey(), z)
    assert {name for name in variables["params"] if "conv" in name} == {"convolutions_0", "convolutions_1"}
    if normalize:  # vectors of several lengths, which they keep
        variables["params"]["embedding"] *= np.linspace(0.5, 2.0, 16, dtype=np.float32)[:, None]
    out = apply(quantizer, variables, z)
    codes, sums, loss = oracle(quantizer, variables, z, normalize)
    for ours, theirs in zip(out.indices, codes, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    for ours, theirs in zip(apply(quantizer, variables, out.indices, method="sums"), sums, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)
    np.testing.assert_allclose(out.loss, loss, rtol=1e-5)
    used = [len(np.unique(found)) / 16 for found in codes]
    np.testing.assert_allclose([out.metrics[f"usage/{number}"] for number in range(4)], used, rtol=1e-6)


def test_the_convolutions_of_ten_scales_are_those_of_var():
    assert [shared_convolution(k, 10, 4) for k in range(10)] == [0, 0, 1, 1, 1, 2, 2, 3, 3, 3]
    assert [shared_convolution(k, 5, 4) for k in range(5)] == [0, 1, 2, 2, 3]
    assert [shared_convolution(k, 6, 2) for k in range(6)] == [0, 0, 0, 1, 1, 1]
    assert [shared_convolution(k, 3, 1) for k in range(3)] == [0, 0, 0] and shared_convolution(0, 1, 4) == 0


def test_latents_of_another_size_have_grids_in_proportion():
    quantizer = nn.MultiScaleQuantizer(16, 4, scales=(1, 2, 4))
    shapes = [spec.shape for spec in quantizer.code_spec((8, 3, 4))]
    assert shapes == [(2, 1), (4, 2), (8, 3)]


def test_counts_are_of_all_scales_and_a_dead_code_gets_a_latent(getkey):
    quantizer = nn.MultiScaleQuantizer(**FIELDS, revive_threshold=0.5)
    z = 0.1 * normal(2, 5, 5, 4)
    variables = init(quantizer, getkey(), z)
    out, moved = apply(
        quantizer, variables, z, train=True, mutable=("codebook",), rngs={"quantizer": jax.random.key(0)}
    )
    counts = np.bincount(np.concatenate([np.ravel(codes) for codes in out.indices]), minlength=16)
    np.testing.assert_allclose(moved["codebook"]["cluster_size"], counts, rtol=1e-6)
    np.testing.assert_array_equal(out.revival["embedding"].mask, counts == 0)
    assert float(out.metrics["revived"]) == (counts == 0).sum() > 0


def test_a_fit_keeps_the_convolutions(getkey):
    quantizer, z = nn.MultiScaleQuantizer(**FIELDS), normal(2, 5, 5, 4)
    variables = init(quantizer, getkey(), z)
    params, codebook = quantizer.fit(
        jax.random.key(0), variables["params"], variables["codebook"], jnp.asarray(z).reshape(2, 25, 4)
    )
    new = {"params": params, "codebook": codebook}
    assert jax.tree.map(jnp.shape, new) == jax.tree.map(jnp.shape, variables)
    np.testing.assert_array_equal(
        params["convolutions_1"]["Conv_0"]["kernel"],
        variables["params"]["convolutions_1"]["Conv_0"]["kernel"],
    )


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"scales": ()}, r"scales must rise from coarse to fine, got \(\)"),
        ({"scales": (1, 3, 2)}, r"scales must rise from coarse to fine, got \(1, 3, 2\)"),
        ({"scales": (0, 3)}, r"MultiScaleQuantizer.scales must be at least 1, got \(0, 3\)"),
        ({"entropy_weight": 0.1}, "has no entropy loss: set entropy_weight to 0"),
    ],
)
def test_fields_that_do_not_fit_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        nn.MultiScaleQuantizer(**{**FIELDS, **fields})


@pytest.mark.parametrize("grids", [1, 3])
def test_grids_of_another_quantizer_are_refused(grids, getkey):
    quantizer, z = nn.MultiScaleQuantizer(**FIELDS), normal(3, 5, 5, 4)
    variables = init(quantizer, getkey(), z)
    codes = tuple(jnp.zeros((2, 5, 5), jnp.int32) for _ in range(grids))
    with pytest.raises(ValueError, match=f"expected 4 grids of codes.*got {grids}: were they made by"):
        quantizer.apply(variables, codes if grids > 1 else codes[0], method="sums")
