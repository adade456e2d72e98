"""PixelCNN: causality without blind spots on any number of axes, conditions, and that it learns."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jitted import apply, drawn, init
from learning import memorise

from vq_jax.generate import SamplingOptions, sample_pixelcnn
from vq_jax.nn import Condition, PixelCNN
from vq_jax.nn.priors.pixelcnn import CausalConv

SMALL = {"width": 16, "num_layers": 4, "kernel": 3, "head_features": 16}


def make(grid=(3, 4), batch=2, **fields):
    """A small PixelCNN with its variables and random codes; large embeddings, so that differences show."""
    model = PixelCNN(24, grid, **(SMALL | fields))
    codes = np.random.default_rng(0).integers(0, 24, (batch, *grid), np.int32)
    condition = None if model.num_classes is None else labelled(np.arange(batch) % model.num_classes)
    variables = drawn(model, codes, condition, std=0.25)
    params = variables["params"]
    large = {name: 3.0 * params[name] for name in ("embedding", "class")}
    return model, {"params": {**params, **large}}, codes, condition


def labelled(labels):
    return Condition(labels=jnp.asarray(np.array(labels, np.int32)))


@pytest.mark.parametrize("grid", [(5,), (3, 4), (2, 2, 3)])
def test_the_gradient_with_respect_to_later_codes_is_zero_and_to_all_earlier_ones_is_not(grid):
    model, variables, _, _ = make(grid)
    total = model.positions
    # each code occurs once, so that a row of the embedding stands for one position
    codes = jnp.asarray(np.arange(total, dtype=np.int32).reshape(1, *grid))
    weights = np.random.default_rng(1).standard_normal(24, np.float32)

    @jax.jit
    def influence(embedding):
        def scores(embedding):
            params = {**variables["params"], "embedding": embedding}
            return model.apply({"params": params}, codes).reshape(total, 24) @ weights

        return jnp.max(jnp.abs(jax.jacrev(scores)(embedding)), axis=-1)[:, :total]

    influenced = np.asarray(influence(variables["params"]["embedding"]))
    np.testing.assert_array_equal(np.triu(influenced), 0.0)
    assert (influenced[np.tril_indices(total, -1)] > 0.0).all()  # no blind spot


@pytest.mark.parametrize("axis,strict", [(0, True), (0, False), (1, True), (1, False)])
def test_a_stack_reads_what_its_axis_says(axis, strict):
    x = np.random.default_rng(0).standard_normal((1, 5, 6, 2), np.float32)
    conv = CausalConv(3, 3, axis, strict)
    variables = drawn(conv, x)
    jacobian = jax.jit(jax.grad(lambda x: conv.apply(variables, x)[0, 2, 3].sum()))(x)
    read = np.argwhere(np.abs(np.asarray(jacobian)[0]).sum(-1) > 0)
    rows, columns = ([1], [2, 3, 4]) if axis == 0 else ([2], [2])
    if not strict:
        rows, columns = ([1, 2], columns) if axis == 0 else (rows, [2, 3])
    assert read.tolist() == [[row, column] for row in rows for column in columns]


def test_labels_matter_and_training_drops_them(getkey):
    fields = {"num_classes": 3, "class_dropout": 0.5, "dropout": 0.0}
    model, variables, codes, _ = make((2, 2), batch=1, **fields)
    codes = np.broadcast_to(codes, (400, 2, 2))

    def logits(label, **kwargs):
        return np.asarray(apply(model, variables, codes, labelled([label] * 400), **kwargs))[:, 0, 0]

    kept, dropped = logits(1), logits(model.null_label)
    assert np.abs(kept - dropped).max() > 1e-3 and np.abs(kept - logits(2)).max() > 1e-3
    trained = logits(1, train=True, rngs={"dropout": getkey()})
    share = np.isclose(trained, dropped, atol=1e-5).all(-1)
    assert (share ^ np.isclose(trained, kept, atol=1e-5).all(-1)).all()
    assert abs(share.mean() - 0.5) < 0.1  # four standard errors


@pytest.mark.ci
def test_it_memorises_eight_grids_and_samples_the_one_of_each_label(getkey):
    fields = {"num_classes": 8, "class_dropout": 0.1, "dropout": 0.0, "head_features": 64}
    model = PixelCNN(32, (3, 3), width=32, num_layers=2, kernel=3, **fields)
    codes, condition = np.random.default_rng(0).integers(0, 32, (8, 3, 3), np.int32), labelled(range(8))
    params = init(model, getkey(), codes, condition)["params"]
    quick = {"xla_backend_optimization_level": 1}  # convolutions in a loop
    params, losses = memorise(getkey(), model, params, codes, condition, optax.adam(1e-2), 150, quick)
    assert abs(losses[0] - np.log(32)) < 0.5
    variables = {"params": params}
    loss, metrics = apply(model, variables, codes, condition, train=False, method="loss")
    assert loss < 0.02 and metrics["accuracy"] == 1.0  # the label determines the grid: the floor is 0
    known = np.zeros((8, 3, 3), bool)
    known[:, 0] = True
    for guidance, kept in ((1.0, None), (2.0, known)):
        options = SamplingOptions(guidance=guidance)
        given = {} if kept is None else {"codes": jnp.asarray(codes), "known": jnp.asarray(kept)}
        samples = sample_pixelcnn(model, variables, getkey(), condition, options=options, **given)
        assert np.mean(samples == codes) > 0.98


def test_sampling_follows_the_logits_of_the_whole_pass(getkey):
    model, variables, _, _ = make((2, 3))
    codes = sample_pixelcnn(model, variables, getkey(), num=3, options=SamplingOptions(temperature=0.0))
    np.testing.assert_array_equal(codes, np.argmax(apply(model, variables, codes), axis=-1))


def test_mistakes_are_refused(getkey):
    for fields, message in [
        ({"kernel": 4}, "kernel must be odd, from 3 to 1023, got 4"),
        ({"kernel": 1}, "kernel must be odd, from 3 to 1023, got 1"),
        ({"head_features": 0}, "head_features must be at least 1, got 0"),
        ({"dropout": 1.0}, r"dropout must lie in \[0, 1\), got 1.0"),
        ({"grid": (0, 2)}, r"grid must be at least 1, got \(0, 2\)"),
    ]:
        with pytest.raises(ValueError, match=message):
            PixelCNN(**({"codebook_size": 8, "grid": (2, 2)} | fields))
    with pytest.raises(ValueError, match=r"PixelCNN expected codes of shape \[B, 2, 2\], got \(2, 2, 3\)"):
        jax.eval_shape(PixelCNN(8, (2, 2)).init, getkey(), jnp.zeros((2, 2, 3), jnp.int32))
