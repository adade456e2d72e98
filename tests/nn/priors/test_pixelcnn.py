"""PixelCNN: causality without blind spots on any number of axes, conditions, and that it learns."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from learning import memorise

from vq_jax.generate import SamplingOptions, sample_pixelcnn
from vq_jax.nn import Condition, PixelCNN
from vq_jax.nn.priors.pixelcnn import CausalConv

SMALL = {"width": 16, "num_layers": 4, "kernel": 3, "head_features": 16}


def make(key, grid=(3, 4), batch=2, **fields):
    """A small PixelCNN with its variables and random codes; large embeddings, so that differences show."""
    model = PixelCNN(24, grid, **(SMALL | fields))
    codes = jax.random.randint(key, (batch, *grid), 0, 24)
    labels = None if model.num_classes is None else jnp.arange(batch) % model.num_classes
    condition = None if labels is None else Condition(labels=labels)
    variables = jax.jit(model.init)(key, codes, condition)
    params = variables["params"]
    large = {name: 30.0 * params[name] for name in ("embedding", "class")}
    return model, {"params": {**params, **large}}, codes, condition


@pytest.mark.parametrize("grid", [(5,), (3, 4), (2, 2, 3)])
def test_the_gradient_with_respect_to_later_codes_is_zero_and_to_all_earlier_ones_is_not(getkey, grid):
    model, variables, _, _ = make(getkey(), grid)
    total = model.positions
    codes = jnp.arange(total).reshape(
        1, *grid
    )  # each code once: a row of the embedding stands for one position
    weights = jax.random.normal(getkey(), (24,))

    @jax.jit
    def influence(embedding):
        def scores(embedding):
            params = {**variables["params"], "embedding": embedding}
            return model.apply({"params": params}, codes).reshape(total, 24) @ weights

        return jnp.max(jnp.abs(jax.jacrev(scores)(embedding)), axis=-1)[:, :total]

    influenced = influence(variables["params"]["embedding"])
    np.testing.assert_array_equal(np.triu(influenced), 0.0)
    assert (influenced[np.tril_indices(total, -1)] > 0.0).all()  # no blind spot


@pytest.mark.parametrize("axis,strict", [(0, True), (0, False), (1, True), (1, False)])
def test_a_stack_reads_what_its_axis_says(getkey, axis, strict):
    x = jax.random.normal(getkey(), (1, 5, 6, 2))
    conv = CausalConv(3, 3, axis, strict)
    variables = conv.init(getkey(), x)
    jacobian = jax.jacrev(lambda x: conv.apply(variables, x)[0, 2, 3].sum())(x)
    read = np.argwhere(np.abs(jacobian[0]).sum(-1) > 0)
    rows, columns = ([1], [2, 3, 4]) if axis == 0 else ([2], [2])
    if not strict:
        rows, columns = ([1, 2], columns) if axis == 0 else (rows, [2, 3])
    assert read.tolist() == [[row, column] for row in rows for column in columns]


def test_labels_matter_and_training_drops_them(getkey):
    fields = {"num_classes": 3, "class_dropout": 0.5, "dropout": 0.0}
    model, variables, codes, _ = make(getkey(), (2, 2), batch=1, **fields)
    codes = jnp.broadcast_to(codes, (400, 2, 2))

    def logits(label, **kwargs):
        condition = Condition(labels=jnp.full((400,), label))
        return np.asarray(model.apply(variables, codes, condition, **kwargs))[:, 0, 0]

    kept, dropped = logits(1), logits(model.null_label)
    assert np.abs(kept - dropped).max() > 1e-3 and np.abs(kept - logits(2)).max() > 1e-3
    trained = logits(1, train=True, rngs={"dropout": getkey()})
    share = np.isclose(trained, dropped, atol=1e-5).all(-1)
    assert (share ^ np.isclose(trained, kept, atol=1e-5).all(-1)).all()
    assert abs(share.mean() - 0.5) < 0.1  # four standard errors


def test_it_memorises_eight_grids_and_samples_the_one_of_each_label(getkey):
    fields = {"num_classes": 8, "class_dropout": 0.1, "dropout": 0.0, "head_features": 64}
    model = PixelCNN(32, (4, 4), width=32, num_layers=4, kernel=3, **fields)
    codes, condition = jax.random.randint(getkey(), (8, 4, 4), 0, 32), Condition(labels=jnp.arange(8))
    params = jax.jit(model.init)(getkey(), codes, condition)["params"]
    params, losses = memorise(getkey(), model, params, codes, condition, optax.adam(3e-3), 400)
    assert abs(losses[0] - np.log(32)) < 0.5
    variables = {"params": params}
    loss, metrics = model.apply(variables, codes, condition, train=False, method="loss")
    assert loss < 0.02 and metrics["accuracy"] == 1.0  # the label determines the grid: the floor is 0
    known = jnp.zeros((8, 4, 4), bool).at[:, 0].set(True)
    for guidance, kept in ((1.0, None), (2.0, known)):
        options = SamplingOptions(guidance=guidance)
        given = None if kept is None else codes
        samples = sample_pixelcnn(
            model, variables, getkey(), condition, options=options, codes=given, known=kept
        )
        assert (samples == codes).mean() > 0.98


def test_sampling_follows_the_logits_of_the_whole_pass(getkey):
    model, variables, _, _ = make(getkey(), (2, 3))
    drawn = sample_pixelcnn(model, variables, getkey(), num=3, options=SamplingOptions(temperature=0.0))
    np.testing.assert_array_equal(drawn, jnp.argmax(model.apply(variables, drawn), axis=-1))


def test_mistakes_are_refused(getkey):
    for fields, message in [
        ({"kernel": 4}, "kernel must be odd and at least 3, got 4"),
        ({"kernel": 1}, "kernel must be odd and at least 3, got 1"),
        ({"head_features": 0}, "head_features must be at least 1, got 0"),
        ({"dropout": 1.0}, r"dropout must lie in \[0, 1\), got 1.0"),
        ({"grid": (0, 2)}, r"grid must be at least 1, got \(0, 2\)"),
    ]:
        with pytest.raises(ValueError, match=message):
            PixelCNN(**({"codebook_size": 8, "grid": (2, 2)} | fields))
    with pytest.raises(ValueError, match=r"PixelCNN expected codes of shape \[B, 2, 2\], got \(2, 2, 3\)"):
        PixelCNN(8, (2, 2)).init(getkey(), jnp.zeros((2, 2, 3), jnp.int32))
