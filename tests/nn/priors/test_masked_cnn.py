"""The masked prior of convolutions: what it reads, its loss, its start from a codebook, that it learns."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jitted import apply, drawn, init
from learning import memorise

from vq_jax.generate import MaskedOptions, sample_maskgit
from vq_jax.nn import Condition, MaskedCNN

SMALL = {"code_dim": 6, "width": 16, "num_layers": 2}


def make(grid=(3, 2, 4), depth=2, batch=2, **fields):
    model = MaskedCNN(24, grid, codes_per_position=depth, **(SMALL | fields))
    codes = np.random.default_rng(0).integers(0, 24, (batch, *model.code_shape), np.int32)
    labels = None if model.num_classes is None else np.arange(batch, dtype=np.int32) % model.num_classes
    condition = None if labels is None else Condition(jnp.asarray(labels))
    return model, drawn(model, codes, condition, std=0.2), codes, condition


@pytest.mark.parametrize("grid, depth", [((3, 4), 1), ((3, 2, 4), 2)])
def test_logits_depend_on_all_codes_but_the_masked_ones(grid, depth):
    model, variables, codes, _ = make(grid, depth)
    mask = np.random.default_rng(1).random(codes.shape) < 0.5
    mask[:, 0], mask[:, -1] = True, False
    masked = jax.jit(lambda codes, mask: model.apply(variables, codes, mask=mask))
    logits = np.asarray(masked(codes, mask))
    assert logits.shape == (*codes.shape, 24) and logits.dtype == np.float32
    np.testing.assert_array_equal(masked(np.where(mask, (codes + 5) % 24, codes), mask), logits)
    seen = codes.copy()
    seen[:, -1] = (codes[:, -1] + 5) % 24
    assert (np.max(np.abs(masked(seen, mask) - logits), axis=-1) > 1e-5).all()  # all times and places
    assert np.max(np.abs(masked(codes, np.zeros_like(mask)) - logits)) > 1e-3


def test_the_table_starts_from_the_codebook_centred_and_of_unit_variance():
    model, variables, _, _ = make()
    vectors = np.random.default_rng(0).normal(3.0, 2.0, (2, 24, 6)).astype(np.float32)
    params = model.with_vectors(variables["params"], jnp.asarray(vectors))
    table = np.asarray(params["embedding"]).reshape(2, 24, 6)
    np.testing.assert_allclose(table.mean(axis=1), 0, atol=1e-6)  # float32 sums of 24
    np.testing.assert_allclose(table.var(axis=1).sum(axis=0).mean(), 1, rtol=1e-5)
    before, after = (
        np.linalg.norm(t[0, 3] - t[0, 4]) / np.linalg.norm(t[1, 5] - t[1, 9]) for t in (vectors, table)
    )
    np.testing.assert_allclose(before, after, rtol=1e-5)
    kept = set(params) - {"embedding", "sharpness"}
    assert all(params[name] is variables["params"][name] for name in kept)
    nearest = [
        np.mean([np.sort(np.sum(np.square(codes - code), axis=-1))[1] for code in codes]) for codes in table
    ]
    np.testing.assert_allclose(params["sharpness"] * np.array(nearest), 0.3, rtol=1e-4)  # float32


def test_a_code_near_the_predicted_vector_is_the_likeliest_where_no_head_is_learnt(getkey):
    model, _, codes, _ = make(depth=1)
    params = init(model, getkey(), codes)["params"]
    bias = params["embedding"][7]
    params = {**params, "vector": {**params["vector"], "bias": bias}}
    logits = np.asarray(apply(model, {"params": params}, codes))
    assert (logits.argmax(-1) == 7).all()
    table = np.asarray(params["embedding"])
    distance = np.sum(np.square(table - table[7]), axis=-1)
    np.testing.assert_allclose(logits[0, 0, 0, 0, 7] - logits[0, 0, 0, 0], 0.3 * 0.5 * distance, rtol=1e-4)


def test_the_loss_adds_the_error_of_vectors_at_masked_positions_alone(getkey):
    model, variables, codes, _ = make(tasks=("next",), regression_weight=3.0)
    rngs = {"mask": getkey()}

    def of(weight):
        other = model.copy(regression_weight=weight)
        return apply(other, variables, codes, train=False, rngs=rngs, method="loss")[0]

    mask = apply(model, variables, codes, rngs=rngs, method="_training_mask")
    predict = jax.jit(lambda codes, mask: model.apply(variables, codes, mask=mask, method="predict"))
    vector = predict(codes, mask)[1]
    table = np.asarray(variables["params"]["embedding"]).reshape(2, 24, 6)
    true = (table[0][codes[..., 0]] + table[1][codes[..., 1]]).reshape(vector.shape)
    counted = np.asarray(mask).any(-1).reshape(vector.shape[:2])
    assert not counted.reshape(2, 3, 8)[:, :2].any() and counted.any()
    error = np.square(vector - true).mean(-1)[counted].mean()
    np.testing.assert_allclose(of(3.0) - of(0.0), 3.0 * error, rtol=1e-4)


@pytest.mark.ci  # compiled for long
def test_it_memorises_grids_and_samples_the_one_of_each_label(getkey):
    model = MaskedCNN(32, (2, 3, 3), num_classes=4, **(SMALL | {"width": 32}))
    codes = np.random.default_rng(0).integers(0, 32, (4, 2, 3, 3), np.int32)
    condition = Condition(jnp.arange(4, dtype=jnp.int32))
    params = init(model, getkey(), codes, condition)["params"]
    optimizer = optax.adam(optax.cosine_decay_schedule(1e-2, 300))
    params, losses = memorise(getkey(), model, params, codes, condition, optimizer, 300)
    assert losses[-1] < 0.1 * losses[0]
    samples = sample_maskgit(
        model, {"params": params}, getkey(), condition, options=MaskedOptions(steps=6, temperature=0.5)
    )
    assert np.mean(samples == codes) > 0.95


def test_mistakes_are_refused():
    for fields, message in [
        ({"grid": (4,)}, r"MaskedCNN.grid must have rows and columns, got \(4,\)"),
        ({"mask_schedule": "cubic"}, "MaskedCNN.mask_schedule must be one of cosine, .*, got 'cubic'"),
        ({"regression_weight": -1.0}, "MaskedCNN.regression_weight must be at least 0, got -1.0"),
        ({"tasks": ("next",)}, r"the task next is about frames: expected codes of clips"),
    ]:
        with pytest.raises(ValueError, match=message):
            MaskedCNN(8, **({"grid": (2, 2)} | SMALL | fields))
