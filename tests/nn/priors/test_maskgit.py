"""MaskGIT: which codes it reads, conditions, losses, and that it learns."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jitted import apply, drawn, init
from learning import memorise

from vq_jax import ops
from vq_jax.generate import MaskedOptions, sample_maskgit
from vq_jax.nn import Condition, MaskGIT

SMALL = {"width": 32, "num_layers": 2, "num_heads": 2}


def make(grid=(3, 4), batch=2, **fields):
    """A small MaskGIT with its variables and random codes; large parameters, so that differences show."""
    model = MaskGIT(24, grid, **(SMALL | fields))
    codes = np.random.default_rng(0).integers(0, 24, (batch, *grid), np.int32)
    condition = None if model.num_classes is None else labelled(np.arange(batch) % model.num_classes)
    return model, drawn(model, codes, condition, std=0.2), codes, condition


def labelled(labels):
    return Condition(labels=jnp.asarray(np.array(labels, np.int32)))


@pytest.mark.parametrize("grid", [(5,), (3, 4), (2, 2, 3)])
def test_logits_depend_on_all_codes_but_the_masked_ones(grid):
    model, variables, codes, _ = make(grid)
    mask = np.random.default_rng(1).random(codes.shape) < 0.5
    mask[:, 0], mask[:, -1] = True, False
    masked = jax.jit(lambda codes, mask: model.apply(variables, codes, mask=mask))
    logits = np.asarray(masked(codes, mask))
    assert logits.shape == (*codes.shape, 24) and logits.dtype == np.float32
    hidden = np.where(mask, (codes + 5) % 24, codes)
    np.testing.assert_array_equal(masked(hidden, mask), logits)
    last = (slice(None),) + (-1,) * len(grid)
    seen = codes.copy()
    seen[last] = (codes[last] + 5) % 24
    changed = np.max(np.abs(masked(seen, mask) - logits), axis=-1)
    assert (changed > 1e-4).all()  # earlier positions too
    assert np.max(np.abs(apply(model, variables, codes) - logits)) > 1e-3  # nothing masked


def test_each_code_of_a_position_has_its_own_codebook_and_head_and_may_be_masked_alone():
    model = MaskGIT(24, (2, 3), codes_per_position=2, **SMALL)
    codes = np.random.default_rng(0).integers(0, 24, (1, 2, 3, 2), np.int32)
    variables = drawn(model, codes, std=0.2)
    assert variables["params"]["embedding"].shape == (2 * 24 + 1, 32)
    masked = jax.jit(lambda codes, mask: model.apply(variables, codes, mask=mask))
    mask = np.zeros(codes.shape, bool)
    mask[0, 1, 2, 1] = True
    logits = np.asarray(masked(codes, mask))
    assert logits.shape == (*codes.shape, 24)
    for place, seen in (((0, 1, 2, 0), True), ((0, 1, 2, 1), False)):
        other = codes.copy()
        other[place] = (codes[place] + 5) % 24
        changed = np.abs(masked(other, mask) - logits)[0, 1, 2, 1].max()
        assert (changed > 1e-4) == seen
    exchanged = jax.tree.map(np.asarray, variables)
    exchanged["params"]["head"] = exchanged["params"]["head"][::-1]
    again = jax.jit(model.apply)(exchanged, codes)
    assert np.abs(again - jax.jit(model.apply)(variables, codes)).min(-1).max() > 1e-4


def test_one_token_may_carry_all_codes_of_a_position_of_which_any_may_be_masked():
    model = MaskGIT(24, (2, 3), codes_per_position=2, tokens="positions", **SMALL)
    codes = np.random.default_rng(0).integers(0, 24, (1, 2, 3, 2), np.int32)
    variables = drawn(model, codes, std=0.2)
    assert variables["params"]["embedding"].shape == (2 * 24 + 2, 32)
    assert not [name for name in variables["params"] if name == "position_2"]
    masked = jax.jit(lambda codes, mask: model.apply(variables, codes, mask=mask))
    mask = np.zeros(codes.shape, bool)
    mask[0, 1, 2, 1] = True
    logits = np.asarray(masked(codes, mask))
    assert logits.shape == (*codes.shape, 24)
    for place, seen in (((0, 1, 2, 0), True), ((0, 0, 0, 1), True), ((0, 1, 2, 1), False)):
        other = codes.copy()
        other[place] = (codes[place] + 5) % 24
        changed = np.abs(masked(other, mask) - logits)[0, 1, 2, 1].max()
        assert (changed > 1e-4) == seen
    with pytest.raises(ValueError, match="MaskGIT.tokens must be codes or positions, got 'rows'"):
        MaskGIT(24, (2, 3), tokens="rows", **SMALL)


def test_training_masks_only_what_its_task_does_not_give():
    model, variables, codes, _ = make((4, 2, 3), batch=64, tasks=("prediction",))
    masks = []

    class Seen(MaskGIT):
        def __call__(self, codes, condition=None, *, mask=None, train=False):
            masks.append(mask)
            return jnp.zeros((*codes.shape, 24), jnp.float32)

    seen = Seen(24, model.grid, tasks=model.tasks, **SMALL)
    seen.apply(variables, jnp.asarray(codes), method="loss", rngs={"mask": jax.random.key(0)})
    mask = np.asarray(masks[0])
    assert not mask[:, 0].any() and mask[:, 1:].any(axis=(1, 2, 3)).all()
    with pytest.raises(ValueError, match="the task prediction is about frames"):
        MaskGIT(24, (2, 3), tasks=("prediction",), **SMALL)


def test_labels_matter_and_the_null_label_has_its_own_logits():
    model, variables, codes, _ = make(batch=4, num_classes=3)
    codes = np.broadcast_to(codes[:1], codes.shape)
    logits = np.asarray(apply(model, variables, codes, labelled([0, 1, 2, model.null_label])))
    for i in range(4):
        for j in range(i):
            assert np.max(np.abs(logits[i] - logits[j])) > 1e-3


@pytest.mark.parametrize("unmasked", [0.0, 0.1])
def test_loss_counts_masked_positions_with_smoothing_in_training_only(getkey, unmasked):
    fields = {"dropout": 0.0, "token_dropout": 0.0, "label_smoothing": 0.1, "unmasked_weight": unmasked}
    model, variables, codes, _ = make(mask_schedule="arccos", **fields)
    rngs = {"mask": getkey()}

    @jax.jit
    def expected(codes):
        """The mask that the module draws, and the cross-entropies with and without smoothing."""
        mask = model.apply(variables, rngs=rngs, method=lambda module: _mask(module, codes.shape))
        logits = model.apply(variables, codes, mask=mask)
        return mask, [ops.code_cross_entropies(logits, codes, smoothing) for smoothing in (0.0, 0.1)]

    mask, (plain, smooth) = jax.device_get(expected(codes))
    assert 0 < mask.sum() < mask.size
    weights = np.where(mask, np.float32(1.0), np.float32(unmasked))
    for train in (True, False):
        loss, metrics = apply(model, variables, codes, train=train, rngs=rngs, method="loss")
        average = ((smooth if train else plain) * weights).sum() / weights.sum()
        np.testing.assert_allclose(loss, average, rtol=1e-5)
        np.testing.assert_allclose(metrics["cross_entropy"], plain[mask].mean(), rtol=1e-5)


def _mask(module, shape):
    return ops.random_mask(module.make_rng("mask"), shape, module.mask_schedule)


def test_training_draws_and_evaluation_does_not(getkey):
    model, variables, codes, condition = make(num_classes=3, dropout=0.3)
    one, other = (
        apply(model, variables, codes, condition, train=True, rngs={"dropout": getkey()}) for _ in "ab"
    )
    assert np.max(np.abs(np.subtract(one, other))) > 1e-3
    first, second = (apply(model, variables, codes, condition) for _ in "ab")
    np.testing.assert_array_equal(first, second)


def test_remat_and_half_precision_keep_the_loss(getkey):
    model, variables, codes, _ = make(dropout=0.1)
    rngs = {"mask": getkey(), "dropout": getkey()}

    def loss(**fields):
        other = model.copy(**fields)
        return apply(other, variables, codes, train=True, rngs=rngs, method="loss")[0]

    np.testing.assert_allclose(loss(), loss(remat=True), rtol=1e-5)
    half = loss(dtype=jnp.bfloat16)
    assert half.dtype == jnp.float32
    np.testing.assert_allclose(loss(), half, rtol=0.05)


def test_it_memorises_eight_grids_and_samples_the_one_of_each_label(getkey):
    fields = {"dropout": 0.0, "token_dropout": 0.0, "num_classes": 8, "class_dropout": 0.1}
    model = MaskGIT(32, (3, 3), width=32, num_layers=2, num_heads=4, **fields)
    codes, condition = np.random.default_rng(0).integers(0, 32, (8, 3, 3), np.int32), labelled(range(8))
    params = init(model, getkey(), codes, condition)["params"]
    optimizer = optax.adam(optax.cosine_decay_schedule(1e-2, 400))
    params, losses = memorise(getkey(), model, params, codes, condition, optimizer, 400)
    assert abs(losses[0] - np.log(32)) < 0.3
    rngs = {"mask": getkey()}
    loss, metrics = apply(model, {"params": params}, codes, condition, rngs=rngs, train=False, method="loss")
    assert loss < 0.02 and metrics["accuracy"] == 1.0  # the label determines the grid: the floor is 0
    for guidance in (1.0, 2.0):
        samples = sample_maskgit(
            model,
            {"params": params},
            getkey(),
            condition,
            options=MaskedOptions(guidance=guidance, steps=6),
        )
        assert np.mean(samples == codes) > 0.98


def test_mistakes_are_refused(getkey):
    for fields, message in [
        ({"mask_schedule": "cubic"}, "mask_schedule must be one of cosine, .*, got 'cubic'"),
        ({"unmasked_weight": -1.0}, "unmasked_weight must be at least 0, got -1.0"),
        ({"dropout": 1.5}, r"MaskGIT.dropout must lie in \[0, 1\), got 1.5"),
    ]:
        with pytest.raises(ValueError, match=message):
            MaskGIT(8, (2, 2), **fields)
    model, key = MaskGIT(8, (2, 2), **SMALL), getkey()
    codes = jnp.zeros((2, 2, 2), jnp.int32)
    with pytest.raises(ValueError, match=r"mask of the codes' shape \(2, 2, 2\), got \(2, 2\)"):
        jax.eval_shape(lambda: model.init(key, codes, mask=jnp.ones((2, 2), bool)))
    with pytest.raises(ValueError, match=r"expected codes of shape \[B, 2, 2\], got \(2, 4\)"):
        jax.eval_shape(model.init, key, codes.reshape(2, 4))
    with pytest.raises(ValueError, match="is unconditional"):
        jax.eval_shape(model.init, key, codes, labelled([0, 0]))
