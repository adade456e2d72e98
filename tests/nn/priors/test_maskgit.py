"""MaskGIT: which codes it reads, conditions, losses, and that it learns."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from learning import memorise

from vq_jax import ops
from vq_jax.generate import MaskedOptions, sample_maskgit
from vq_jax.nn import Condition, MaskGIT

SMALL = {"width": 32, "num_layers": 2, "num_heads": 2}


def make(key, grid=(3, 4), batch=2, **fields):
    """A small MaskGIT with its variables and random codes; large parameters, so that differences show."""
    model = MaskGIT(24, grid, **(SMALL | fields))
    codes = jax.random.randint(key, (batch, *grid), 0, 24)
    labels = None if model.num_classes is None else jnp.arange(batch) % model.num_classes
    condition = None if labels is None else Condition(labels=labels)
    variables = jax.jit(model.init)(key, codes, condition)
    return model, jax.tree.map(lambda leaf: 3.0 * leaf, variables), codes, condition


@pytest.mark.parametrize("grid", [(5,), (3, 4), (2, 2, 3)])
def test_logits_depend_on_all_codes_but_the_masked_ones(getkey, grid):
    model, variables, codes, _ = make(getkey(), grid)
    mask = jax.random.bernoulli(getkey(), 0.5, codes.shape).at[:, 0].set(True).at[:, -1].set(False)
    apply = jax.jit(model.apply)
    logits = apply(variables, codes, mask=mask)
    assert logits.shape == (*codes.shape, 24) and logits.dtype == jnp.float32
    hidden = jnp.where(mask, (codes + 5) % 24, codes)
    np.testing.assert_array_equal(apply(variables, hidden, mask=mask), logits)
    last = (slice(None),) + (-1,) * len(grid)
    seen = codes.at[last].set((codes[last] + 5) % 24)
    changed = jnp.max(jnp.abs(apply(variables, seen, mask=mask) - logits), axis=-1)
    assert (changed > 1e-4).all()  # earlier positions too
    assert jnp.max(jnp.abs(apply(variables, codes) - logits)) > 1e-3  # nothing masked


def test_labels_matter_and_the_null_label_has_its_own_logits(getkey):
    model, variables, codes, _ = make(getkey(), batch=4, num_classes=3)
    codes = jnp.broadcast_to(codes[:1], codes.shape)
    logits = model.apply(variables, codes, Condition(labels=jnp.array([0, 1, 2, model.null_label])))
    for i in range(4):
        for j in range(i):
            assert jnp.max(jnp.abs(logits[i] - logits[j])) > 1e-3


@pytest.mark.parametrize("unmasked", [0.0, 0.1])
def test_loss_counts_masked_positions_with_smoothing_in_training_only(getkey, unmasked):
    fields = {"dropout": 0.0, "token_dropout": 0.0, "label_smoothing": 0.1, "unmasked_weight": unmasked}
    model, variables, codes, _ = make(getkey(), mask_schedule="arccos", **fields)
    rngs = {"mask": getkey()}
    # the mask that the module draws
    mask = model.apply(variables, rngs=rngs, method=lambda module: _mask(module, codes.shape))
    assert 0 < mask.sum() < mask.size
    values = {
        s: ops.code_cross_entropies(model.apply(variables, codes, mask=mask), codes, s) for s in (0.0, 0.1)
    }
    weights = jnp.where(mask, 1.0, unmasked)
    for train in (True, False):
        loss, metrics = model.apply(variables, codes, train=train, rngs=rngs, method="loss")
        expected = (values[0.1 if train else 0.0] * weights).sum() / weights.sum()
        np.testing.assert_allclose(loss, expected, rtol=1e-5)
        np.testing.assert_allclose(metrics["cross_entropy"], values[0.0][mask].mean(), rtol=1e-5)


def _mask(module, shape):
    return ops.random_mask(module.make_rng("mask"), shape, module.mask_schedule)


def test_training_draws_and_evaluation_does_not(getkey):
    model, variables, codes, condition = make(getkey(), num_classes=3, dropout=0.3)
    one, other = (
        model.apply(variables, codes, condition, train=True, rngs={"dropout": getkey()}) for _ in "ab"
    )
    assert jnp.max(jnp.abs(one - other)) > 1e-3
    first, second = (model.apply(variables, codes, condition) for _ in "ab")
    np.testing.assert_array_equal(first, second)


def test_remat_and_half_precision_keep_the_loss(getkey):
    model, variables, codes, _ = make(getkey(), dropout=0.1)
    rngs = {"mask": getkey(), "dropout": getkey()}

    def loss(**fields):
        other = model.copy(**fields)
        return jax.jit(lambda v: other.apply(v, codes, train=True, rngs=rngs, method="loss")[0])(variables)

    np.testing.assert_allclose(loss(), loss(remat=True), rtol=1e-5)
    half = loss(dtype=jnp.bfloat16)
    assert half.dtype == jnp.float32
    np.testing.assert_allclose(loss(), half, rtol=0.05)


def test_it_memorises_eight_grids_and_samples_the_one_of_each_label(getkey):
    fields = {"dropout": 0.0, "token_dropout": 0.0, "num_classes": 8, "class_dropout": 0.1}
    model = MaskGIT(32, (4, 4), width=64, num_layers=2, num_heads=4, **fields)
    codes, labels = jax.random.randint(getkey(), (8, 4, 4), 0, 32), jnp.arange(8)
    condition = Condition(labels=labels)
    params = jax.jit(model.init)(getkey(), codes, condition)["params"]
    optimizer = optax.adam(optax.cosine_decay_schedule(3e-3, 500))
    params, losses = memorise(getkey(), model, params, codes, condition, optimizer, 500)
    assert abs(losses[0] - np.log(32)) < 0.3
    loss, metrics = model.apply(
        {"params": params}, codes, condition, train=False, rngs={"mask": getkey()}, method="loss"
    )
    assert loss < 0.02 and metrics["accuracy"] == 1.0  # the label determines the grid: the floor is 0
    for guidance in (1.0, 2.0):
        samples = sample_maskgit(
            model,
            {"params": params},
            getkey(),
            condition,
            options=MaskedOptions(guidance=guidance, steps=6),
        )
        assert (samples == codes).mean() > 0.98


def test_mistakes_are_refused(getkey):
    for fields, message in [
        ({"mask_schedule": "cubic"}, "mask_schedule must be one of cosine, .*, got 'cubic'"),
        ({"unmasked_weight": -1.0}, "unmasked_weight must be at least 0, got -1.0"),
        ({"dropout": 1.5}, r"MaskGIT.dropout must lie in \[0, 1\), got 1.5"),
    ]:
        with pytest.raises(ValueError, match=message):
            MaskGIT(8, (2, 2), **fields)
    model = MaskGIT(8, (2, 2), **SMALL)
    codes = jnp.zeros((2, 2, 2), jnp.int32)
    with pytest.raises(ValueError, match=r"mask of the codes' shape \(2, 2, 2\), got \(2, 2\)"):
        model.init(getkey(), codes, mask=jnp.ones((2, 2), bool))
    with pytest.raises(ValueError, match=r"expected codes of shape \[B, 2, 2\], got \(2, 4\)"):
        model.init(getkey(), codes.reshape(2, 4))
    with pytest.raises(ValueError, match="is unconditional"):
        model.init(getkey(), codes, Condition(labels=jnp.zeros((2,), jnp.int32)))
