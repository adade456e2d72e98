"""GPT: causality, cache, conditions, several codes per position, and that it learns."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jitted import apply, drawn, init
from learning import memorise

from vq_jax import ops
from vq_jax.generate import SamplingOptions, sample_gpt
from vq_jax.nn import GPT, Condition
from vq_jax.nn.priors.layers import Block

SMALL = {"width": 32, "num_layers": 2, "num_heads": 2}
SHAPES = [((5,), 1), ((3, 4), 1), ((2, 2, 3), 1), ((2, 3), 3)]


def make(grid=(3, 4), depth=1, batch=2, **fields):
    """A small GPT with its variables and random codes; large parameters, so that differences show."""
    width = 8 * 2 * len(grid)
    model = GPT(24, grid, **(SMALL | {"width": width, "codes_per_position": depth} | fields))
    codes = np.random.default_rng(0).integers(0, 24, (batch, *model.code_shape), np.int32)
    condition = None if model.num_classes is None else labelled(np.arange(batch) % model.num_classes)
    return model, drawn(model, codes, condition, std=0.2), codes, condition


def labelled(labels):
    return Condition(labels=jnp.asarray(np.array(labels, np.int32)))


@pytest.mark.parametrize("grid,depth", SHAPES)
def test_logits_do_not_depend_on_their_own_or_any_later_code(grid, depth):
    model, variables, _, _ = make(grid, depth)
    total = model.positions * depth
    # each code occurs once, so that a row of the embedding stands for one position
    codes = np.arange(model.positions, dtype=np.int32).repeat(depth).reshape(1, *model.code_shape)
    codes = jnp.asarray(codes)
    weights = np.random.default_rng(1).standard_normal(24, np.float32)

    @jax.jit
    def influence(embedding):
        def scores(embedding):
            params = {**variables["params"], "embedding": embedding}
            return model.apply({"params": params}, codes).reshape(total, 24) @ weights

        jacobian = jax.jacrev(scores)(embedding)  # [score, depth, code, width]
        return jnp.max(jnp.abs(jacobian), axis=-1).swapaxes(1, 2)[:, : model.positions].reshape(total, total)

    influenced = np.asarray(influence(variables["params"]["embedding"]))
    np.testing.assert_array_equal(np.triu(influenced), 0.0)
    earlier = np.tril_indices(total, -1)
    assert (influenced[earlier] > 1e-6).all()


@pytest.mark.parametrize(
    "grid,depth,dtype", [*((*shape, jnp.float32) for shape in SHAPES), (*SHAPES[-1], jnp.bfloat16)]
)
def test_cached_logits_equal_the_whole_pass_at_every_position(grid, depth, dtype):
    model, variables, codes, condition = make(grid, depth, num_classes=3, dtype=dtype)
    whole = np.asarray(apply(model, variables, codes, condition)).reshape(2, model.positions, depth, 24)
    flat = codes.reshape(2, model.positions, depth)

    @jax.jit
    def step(previous, position, codes, caches):
        """Logits of a position's codes [B, Q, K], each given those before it, and the caches."""
        weights = model.sampling_weights(variables)
        hidden, caches = model.apply(variables, weights, previous, position, condition, caches, method="step")
        depth_caches, logits = model.init_depth_caches(2), []
        for q in range(depth):
            before = codes[:, q - 1] if q else None
            out, depth_caches = model.apply(
                variables, weights, hidden, q, before, depth_caches, method="step_logits"
            )
            logits.append(out)
        return jnp.stack(logits, axis=1), caches

    caches, previous = jax.jit(lambda: model.init_caches(2))(), np.full((2, depth), 7, np.int32)
    tolerance = 1e-5 if dtype == jnp.float32 else 0.3
    assert np.std(whole) > 0.3
    for position in range(model.positions):
        logits, caches = step(previous, np.int32(position), flat[:, position], caches)
        np.testing.assert_allclose(logits, whole[:, position], rtol=0, atol=tolerance)
        previous = flat[:, position]


def test_scanned_layers_equal_the_same_layers_one_by_one():
    model, variables, _, _ = make(num_layers=3)
    layers = variables["params"]["layers"]
    x = np.random.default_rng(1).standard_normal((2, model.positions, model.width), np.float32)
    angles = jnp.asarray(model._angles())
    scanned = apply(model._layers(3), {"params": layers}, x, angles, train=False)
    block = Block(model.num_heads, 128, causal=True)
    for params in jax.jit(model.sampling_weights)(variables).layers:
        x, _ = apply(block, {"params": params}, x, angles, train=False)
    np.testing.assert_allclose(scanned, x, rtol=1e-5, atol=1e-5)


def test_remat_changes_nothing(getkey):
    model, variables, codes, _ = make(dropout=0.2, token_dropout=0.0)
    codes, rngs = jnp.asarray(codes), {"dropout": getkey()}

    def grads(remat):
        def loss(params):
            other = model.copy(remat=remat)
            return other.apply({"params": params}, codes, train=True, rngs=rngs, method="loss")[0]

        return jax.jit(jax.value_and_grad(loss))(variables["params"])

    for one, other in zip(jax.tree.leaves(grads(False)), jax.tree.leaves(grads(True)), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


def test_there_are_as_many_parameters_as_in_llamagen_b_except_for_the_positions():
    model = GPT(16384, (16, 16), num_classes=1000)
    codes, condition = jnp.zeros((1, 16, 16), jnp.int32), Condition(labels=jnp.zeros((1,), jnp.int32))
    shapes = jax.eval_shape(model.init, jax.random.key(0), codes, condition)["params"]
    count = sum(leaf.size for leaf in jax.tree.leaves(shapes))
    layer = 4 * 768**2 + 3 * 768 * 2048 + 2 * 768
    assert count == 12 * layer + 2 * 16384 * 768 + 1001 * 768 + 768 + 2 * 16 * 768
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(shapes))


def test_labels_matter_and_the_null_label_has_its_own_logits():
    model, variables, codes, _ = make(num_classes=3)
    codes = np.broadcast_to(codes[:1], (4, 3, 4))
    labels = labelled([0, 1, 2, model.null_label])
    logits = np.asarray(apply(model, variables, codes, labels))
    for i in range(4):
        for j in range(i):
            assert np.max(np.abs(logits[i] - logits[j])) > 1e-3
    assert logits.dtype == np.float32


def test_training_drops_the_configured_share_of_labels(getkey):
    fields = {"num_classes": 2, "class_dropout": 0.25, "dropout": 0.0, "token_dropout": 0.0}
    model, variables, codes, _ = make((2,), num_layers=1, **fields)
    codes = np.broadcast_to(codes[:1], (2000, 2))

    def logits(label, **kwargs):
        return np.asarray(apply(model, variables, codes, labelled([label] * 2000), **kwargs))[:, 0]

    trained = logits(1, train=True, rngs={"dropout": getkey()})
    dropped = np.isclose(trained, logits(model.null_label), atol=1e-5).all(-1)
    kept = np.isclose(trained, logits(1), atol=1e-5).all(-1)
    assert (dropped ^ kept).all()
    assert abs(dropped.mean() - 0.25) < 0.04  # over four standard errors


def test_dropouts_need_training_and_a_key(getkey):
    fields = {"num_classes": 3, "class_dropout": 0.0, "dropout": 0.0, "token_dropout": 0.0}
    plain, variables, codes, condition = make(**fields)
    expected = apply(plain, variables, codes, condition)
    np.testing.assert_array_equal(apply(plain, variables, codes, condition, train=True), expected)
    for field in ("dropout", "token_dropout"):
        model = plain.copy(**{field: 0.5})
        np.testing.assert_array_equal(apply(model, variables, codes, condition), expected)
        one, other = (
            apply(model, variables, codes, condition, train=True, rngs={"dropout": getkey()}) for _ in "ab"
        )
        assert np.max(np.abs(np.subtract(one, other))) > 1e-3


def test_loss_is_the_cross_entropy_with_smoothing_in_training_only():
    model, variables, codes, _ = make(depth=2, dropout=0.0, token_dropout=0.0, label_smoothing=0.2)
    logits = apply(model, variables, codes)
    entropy = jax.jit(ops.code_cross_entropy, static_argnames="label_smoothing")
    for train, smoothing in ((True, 0.2), (False, 0.0)):
        loss, metrics = apply(model, variables, codes, train=train, method="loss")
        np.testing.assert_allclose(loss, entropy(logits, codes, label_smoothing=smoothing), rtol=1e-6)
        np.testing.assert_allclose(metrics["cross_entropy"], entropy(logits, codes), rtol=1e-6)
        assert 0.0 <= metrics["accuracy"] <= 1.0


@pytest.mark.parametrize("depth", [1, pytest.param(2, marks=pytest.mark.ci)])
def test_it_memorises_eight_grids_and_samples_them(getkey, depth):
    model = GPT(32, (3, 3), width=32, num_layers=2, num_heads=4, dropout=0.0, token_dropout=0.0)
    model = model.copy(codes_per_position=depth)
    codes = np.random.default_rng(0).integers(0, 32, (8, *model.code_shape), np.int32)
    first = (0,) * (codes.ndim - 1)
    codes[(slice(None), *first)] = np.arange(8)  # the first code tells the grids apart
    params = init(model, getkey(), codes)["params"]
    params, losses = memorise(getkey(), model, params, codes, None, optax.adam(1e-2), 120)
    floor = np.log(8) / codes[0].size  # the entropy of the first code, which determines the rest
    assert abs(losses[0] - np.log(32)) < 0.3
    assert floor - 1e-4 < losses[-1] < floor + 0.02
    samples = sample_gpt(model, {"params": params}, getkey(), num=32, options=SamplingOptions(top_p=0.9))
    same = (np.asarray(samples)[:, None] == codes[None]).reshape(32, 8, -1).all(-1)
    assert same.any(1).all() and same.any(0).sum() >= 4


def test_mistakes_are_refused(getkey):
    for fields, message in [
        ({"codebook_size": 0}, "codebook_size must be at least 1, got 0"),
        ({"grid": ()}, r"grid must have at least one axis, got \(\)"),
        ({"width": 30, "num_heads": 4}, "width must be a multiple of num_heads = 4, got 30"),
        ({"width": 12, "num_heads": 4}, "even width, at least 4 for 2 spatial axes, got 3"),
        ({"num_classes": 0}, "num_classes must be at least 1, got 0"),
        ({"class_dropout": 1.0}, r"class_dropout must lie in \[0, 1\), got 1.0"),
        ({"label_smoothing": -0.1}, r"label_smoothing must lie in \[0, 1\), got -0.1"),
        ({"codes_per_position": 0}, "codes_per_position must be at least 1, got 0"),
        ({"depth_layers": 0}, "depth_layers must be at least 1, got 0"),
    ]:
        with pytest.raises(ValueError, match=message):
            GPT(**({"codebook_size": 8, "grid": (2, 2)} | fields))
    plain, labelled = (GPT(8, (2, 2), **SMALL, num_classes=classes) for classes in (None, 3))
    codes, labels = jnp.zeros((2, 2, 2), jnp.int32), jnp.zeros((2,), jnp.int32)
    for model, condition, message in [
        (plain, Condition(labels=labels), "is unconditional"),
        (plain, Condition(codes=codes), "conditioned on labels only"),
        (labelled, None, "conditioned on 3 classes: give condition.labels"),
        (labelled, Condition(labels=labels[:1]), r"expected labels of shape \(2,\), got \(1,\)"),
    ]:
        with pytest.raises(ValueError, match=message):
            jax.eval_shape(model.init, getkey(), codes, condition)
    with pytest.raises(ValueError, match=r"expected codes of shape \[B, 2, 2\], got \(2, 2, 3\)"):
        jax.eval_shape(plain.init, getkey(), np.zeros((2, 2, 3), np.int32))
    with pytest.raises(ValueError, match="unconditional .* no null label"):
        _ = plain.null_label
    with pytest.raises(ValueError, match="trained without class dropout"):
        _ = labelled.copy(class_dropout=0.0).null_label
