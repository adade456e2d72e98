"""GPT: causality, cache, conditions, several codes per position, and that it learns."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from learning import memorise

from vq_jax import ops
from vq_jax.generate import SamplingOptions, sample_gpt
from vq_jax.nn import GPT, Condition
from vq_jax.nn.priors.layers import Block

SMALL = {"width": 32, "num_layers": 2, "num_heads": 2}
SHAPES = [((5,), 1), ((3, 4), 1), ((2, 2, 3), 1), ((2, 3), 3)]


def make(key, grid=(3, 4), depth=1, batch=2, **fields):
    """A small GPT with its variables and random codes; large parameters, so that differences show."""
    width = 8 * 2 * len(grid)
    model = GPT(24, grid, **(SMALL | {"width": width, "codes_per_position": depth} | fields))
    codes = jax.random.randint(key, (batch, *model.code_shape), 0, 24)
    labels = None if model.num_classes is None else jnp.arange(batch) % model.num_classes
    condition = None if labels is None else Condition(labels=labels)
    variables = jax.jit(model.init)(key, codes, condition)
    return model, jax.tree.map(lambda leaf: 3.0 * leaf, variables), codes, condition


@pytest.mark.parametrize("grid,depth", SHAPES)
def test_logits_do_not_depend_on_their_own_or_any_later_code(getkey, grid, depth):
    model, variables, _, _ = make(getkey(), grid, depth)
    total = model.positions * depth
    # each code occurs once, so that a row of the embedding stands for one position
    codes = jnp.arange(model.positions).repeat(depth).reshape(1, *model.code_shape)
    weights = jax.random.normal(getkey(), (24,))

    @jax.jit
    def influence(embedding):
        def scores(embedding):
            params = {**variables["params"], "embedding": embedding}
            return model.apply({"params": params}, codes).reshape(total, 24) @ weights

        jacobian = jax.jacrev(scores)(embedding)  # [score, depth, code, width]
        return jnp.max(jnp.abs(jacobian), axis=-1).swapaxes(1, 2)[:, : model.positions].reshape(total, total)

    influenced = influence(variables["params"]["embedding"])
    np.testing.assert_array_equal(np.triu(influenced), 0.0)
    earlier = np.tril_indices(total, -1)
    assert (influenced[earlier] > 1e-6).all()


@pytest.mark.parametrize(
    "grid,depth,dtype", [*((*shape, jnp.float32) for shape in SHAPES), (*SHAPES[-1], jnp.bfloat16)]
)
def test_cached_logits_equal_the_whole_pass_at_every_position(getkey, grid, depth, dtype):
    model, variables, codes, condition = make(getkey(), grid, depth, num_classes=3, dtype=dtype)
    whole = jax.jit(model.apply)(variables, codes, condition)
    whole = whole.reshape(2, model.positions, depth, 24)
    flat = codes.reshape(2, model.positions, depth)
    weights = model.sampling_weights(variables)
    step = jax.jit(functools.partial(model.apply, method="step"))
    logits_of = jax.jit(functools.partial(model.apply, method="step_logits"), static_argnums=3)
    caches, previous = model.init_caches(2), jnp.full((2, depth), 7)
    tolerance = 1e-5 if dtype == jnp.float32 else 0.3
    assert jnp.std(whole) > 0.3
    for position in range(model.positions):
        hidden, caches = step(variables, weights, previous, jnp.asarray(position), condition, caches)
        depth_caches, before = model.init_depth_caches(2), None
        for q in range(depth):
            logits, depth_caches = logits_of(variables, weights, hidden, q, before, depth_caches)
            np.testing.assert_allclose(logits, whole[:, position, q], rtol=0, atol=tolerance)
            before = flat[:, position, q]
        previous = flat[:, position]


def test_scanned_layers_equal_the_same_layers_one_by_one(getkey):
    model, variables, _, _ = make(getkey(), num_layers=3)
    layers = variables["params"]["layers"]
    x = jax.random.normal(getkey(), (2, model.positions, model.width))
    angles = jnp.asarray(model._angles())
    scanned = model._layers(3).apply({"params": layers}, x, angles, train=False)
    block = Block(model.num_heads, 128, causal=True)
    for params in model.sampling_weights(variables).layers:
        x, _ = block.apply({"params": params}, x, angles, False)
    np.testing.assert_allclose(scanned, x, rtol=1e-5, atol=1e-5)


def test_remat_changes_nothing(getkey):
    model, variables, codes, _ = make(getkey(), dropout=0.2)
    rngs = {"dropout": getkey()}

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


def test_labels_matter_and_the_null_label_has_its_own_logits(getkey):
    model, variables, codes, _ = make(getkey(), num_classes=3)
    codes = jnp.broadcast_to(codes[:1], (4, 3, 4))
    labels = jnp.array([0, 1, 2, model.null_label])
    logits = model.apply(variables, codes, Condition(labels=labels))
    for i in range(4):
        for j in range(i):
            assert jnp.max(jnp.abs(logits[i] - logits[j])) > 1e-3
    assert logits.dtype == jnp.float32


def test_training_drops_the_configured_share_of_labels(getkey):
    fields = {"num_classes": 2, "class_dropout": 0.25, "dropout": 0.0, "token_dropout": 0.0}
    model, variables, codes, _ = make(getkey(), (2,), num_layers=1, **fields)
    codes = jnp.broadcast_to(codes[:1], (2000, 2))

    def logits(label, **kwargs):
        condition = Condition(labels=jnp.full((2000,), label))
        return np.asarray(model.apply(variables, codes, condition, **kwargs))[:, 0]

    trained = logits(1, train=True, rngs={"dropout": getkey()})
    dropped = np.isclose(trained, logits(model.null_label), atol=1e-5).all(-1)
    kept = np.isclose(trained, logits(1), atol=1e-5).all(-1)
    assert (dropped ^ kept).all()
    assert abs(dropped.mean() - 0.25) < 0.04  # over four standard errors


def test_dropouts_need_training_and_a_key(getkey):
    fields = {"num_classes": 3, "class_dropout": 0.0, "dropout": 0.0, "token_dropout": 0.0}
    plain, variables, codes, condition = make(getkey(), **fields)
    expected = plain.apply(variables, codes, condition)
    np.testing.assert_array_equal(plain.apply(variables, codes, condition, train=True), expected)
    for field in ("dropout", "token_dropout"):
        model = plain.copy(**{field: 0.5})
        np.testing.assert_array_equal(model.apply(variables, codes, condition), expected)
        one, other = (
            model.apply(variables, codes, condition, train=True, rngs={"dropout": getkey()}) for _ in "ab"
        )
        assert jnp.max(jnp.abs(one - other)) > 1e-3


def test_loss_is_the_cross_entropy_with_smoothing_in_training_only(getkey):
    model, variables, codes, _ = make(getkey(), depth=2, dropout=0.0, token_dropout=0.0, label_smoothing=0.2)
    logits = model.apply(variables, codes)
    for train, smoothing in ((True, 0.2), (False, 0.0)):
        loss, metrics = model.apply(variables, codes, train=train, method="loss")
        expected = ops.code_cross_entropy(logits, codes, label_smoothing=smoothing)
        np.testing.assert_allclose(loss, expected, rtol=1e-6)
        np.testing.assert_allclose(metrics["cross_entropy"], ops.code_cross_entropy(logits, codes), rtol=1e-6)
        assert 0.0 <= metrics["accuracy"] <= 1.0


@pytest.mark.parametrize("depth", [1, 2])
def test_it_memorises_eight_grids_and_samples_them(getkey, depth):
    model = GPT(32, (4, 4), width=64, num_layers=2, num_heads=4, dropout=0.0, token_dropout=0.0)
    model = model.copy(codes_per_position=depth)
    codes = jax.random.randint(getkey(), (8, *model.code_shape), 0, 32)
    first = (0,) * (codes.ndim - 1)
    codes = codes.at[(slice(None), *first)].set(jnp.arange(8))  # the first code tells the grids apart
    params = jax.jit(model.init)(getkey(), codes)["params"]
    params, losses = memorise(getkey(), model, params, codes, None, optax.adam(3e-3), 250)
    floor = np.log(8) / codes[0].size  # the entropy of the first code, which determines the rest
    assert abs(losses[0] - np.log(32)) < 0.3
    assert floor - 1e-4 < losses[-1] < floor + 0.02
    samples = sample_gpt(model, {"params": params}, getkey(), num=32, options=SamplingOptions(top_p=0.9))
    same = (samples[:, None] == codes[None]).reshape(32, 8, -1).all(-1)
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
            model.init(getkey(), codes, condition)
    with pytest.raises(ValueError, match=r"expected codes of shape \[B, 2, 2\], got \(2, 2, 3\)"):
        plain.init(getkey(), jnp.zeros((2, 2, 3), jnp.int32))
    with pytest.raises(ValueError, match="unconditional .* no null label"):
        _ = plain.null_label
    with pytest.raises(ValueError, match="trained without class dropout"):
        _ = labelled.copy(class_dropout=0.0).null_label
