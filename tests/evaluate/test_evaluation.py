"""Figures of merit against scikit-image and NumPy; sums of batches against the whole."""

import functools
import math
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import skimage.metrics
from jitted import apply, init

from vq_jax import evaluate, nn, ops
from vq_jax.types import CodeSpec

WIDTH = {"channels": 8, "residual_channels": 4, "num_res_blocks": 1, "num_downsamples": 1}


def pictures(seed, count=2, size=16):
    return np.random.default_rng(seed).integers(0, 256, (count, size, size, 3), np.uint8)


def test_psnr_and_ssim_are_scikit_images():
    a, b = pictures(0)[0], pictures(1)[0]
    assert evaluate.psnr(a, b) == pytest.approx(
        skimage.metrics.peak_signal_noise_ratio(a, b, data_range=255), rel=1e-9
    )
    expected = skimage.metrics.structural_similarity(a, b, channel_axis=-1, data_range=255)
    assert evaluate.ssim(a, b) == pytest.approx(expected)
    assert evaluate.psnr(a, a) > 100.0 and evaluate.ssim(a, a) == pytest.approx(1.0)


def test_psnr_from_mse_agrees_with_psnr_of_pictures():
    a, b = pictures(0), pictures(1)
    mse = evaluate.mean_squared_error(ops.normalize_pictures(a), ops.normalize_pictures(b))
    expected = [evaluate.psnr(x, y) for x, y in zip(a, b, strict=True)]
    np.testing.assert_allclose(evaluate.psnr_from_mse(mse), expected, rtol=1e-5)


@pytest.fixture(scope="module")
def model_and_variables():
    model = nn.VQModel(
        nn.ResidualEncoder(latent_channels=4, **WIDTH),
        nn.VectorQuantizerEMA(16, 4),
        nn.ResidualDecoder(**WIDTH),
    )
    return model, init(model, jax.random.key(0), np.zeros((1, 16, 16, 3), np.float32))


@functools.cache
def made_step(model, quantize):
    """The evaluators of a model and their compiled step."""
    setup = evaluate.Setup(model.code_specs((16, 16, 3)), "l2")
    evaluators = evaluate.make_evaluators(evaluate.DEFAULT_EVALUATORS, setup)

    @jax.jit
    def step(variables, batch):
        return evaluate.evaluation_step(
            variables["params"],
            variables["codebook"],
            batch,
            model=model,
            evaluators=evaluators,
            quantize=quantize,
        )

    return evaluators, step


def run(model_and_variables, batches, quantize=True):
    """Figures, and counts of codes by the ending of the names."""
    model, variables = model_and_variables
    evaluators, step = made_step(model, quantize)
    figures, states = evaluate.evaluate(functools.partial(step, variables), batches, evaluators)
    return figures, evaluators["codes"].counts(states["codes"])


def test_figures_do_not_depend_on_how_the_set_is_batched_or_filled_up(model_and_variables):
    images = pictures(3, 6)
    whole, counts = run(model_and_variables, [{"image": images, "valid": np.ones(6, bool)}])
    filled = np.concatenate([images[4:], images[5:], images[5:]])
    split, split_counts = run(
        model_and_variables,
        [
            {"image": images[:4], "valid": np.ones(4, bool)},
            {"image": filled, "valid": np.array([True, True, False, False])},
        ],
    )
    np.testing.assert_array_equal(counts[""], split_counts[""])
    for name in whole:
        assert split[name] == pytest.approx(whole[name], rel=1e-5), name


def test_figures_match_numpy(model_and_variables):
    model, variables = model_and_variables
    images = pictures(4, 5)
    figures, counts = run(model_and_variables, [{"image": images, "valid": np.ones(5, bool)}])
    normalized = np.asarray(ops.normalize_pictures(images), np.float64)
    out = apply(model, variables, normalized.astype(np.float32))
    error = np.mean((np.asarray(out.reconstruction, np.float64) - normalized) ** 2)
    assert figures["loss"] == pytest.approx(error, rel=1e-4)
    assert figures["nmse"] == pytest.approx(error / normalized.var(), rel=1e-4)
    expected = np.bincount(np.asarray(out.indices).ravel(), minlength=16)
    np.testing.assert_array_equal(counts[""], expected)
    assert figures["used_codes"] == np.sum(expected > 0) == 16 * figures["usage"]
    p = expected / expected.sum()
    entropy = -np.sum(p[p > 0] * np.log(p[p > 0]))
    assert figures["perplexity"] == pytest.approx(np.exp(entropy), rel=1e-4)


def test_bypassing_the_quantizer_leaves_out_the_code_figures(model_and_variables):
    batch = {"image": pictures(5, 2), "valid": np.ones(2, bool)}
    figures, counts = run(model_and_variables, [batch], quantize=False)
    assert counts == {} and set(figures) == {"loss", "psnr", "nmse"}


def test_an_empty_set_is_refused(model_and_variables):
    with pytest.raises(ValueError, match="at least one batch"):
        run(model_and_variables, [])


def test_reconstructions_are_compared_with_the_target_where_there_is_one(model_and_variables):
    images, targets = pictures(6, 3), pictures(7, 3)
    valid = np.ones(3, bool)
    alone, _ = run(model_and_variables, [{"image": images, "valid": valid}])
    same, _ = run(model_and_variables, [{"image": images, "target": images, "valid": valid}])
    other, _ = run(model_and_variables, [{"image": images, "target": targets, "valid": valid}])
    assert same == alone
    model, variables = model_and_variables
    out = apply(model, variables, ops.normalize_pictures(images)).reconstruction
    error = np.mean((np.asarray(out) - np.asarray(ops.normalize_pictures(targets))) ** 2)
    assert other["loss"] == pytest.approx(error, rel=1e-5) and other["perplexity"] == alone["perplexity"]


@pytest.mark.parametrize("name", sorted(set(evaluate.EVALUATORS) - {"lpips", "lpips-vgg", "flicker"}))
def test_states_of_batches_add_up_and_pictures_that_only_fill_a_batch_do_not_count(model_and_variables, name):
    """For every evaluator of the registry that needs neither weights nor clips."""
    model, variables = model_and_variables
    images = ops.normalize_pictures(pictures(8, 4))
    output = apply(model, variables, images)
    batch = {"image": images, "target": images, "valid": np.array([True, True, True, False])}
    evaluator = evaluate.make_evaluators([name], evaluate.Setup(model.code_specs((16, 16, 3)), "l2"))[name]
    update = jax.jit(evaluator.update)
    once = update(evaluator.init(), batch, output)
    twice = update(once, batch, output)
    jax.tree.map(np.testing.assert_array_equal, twice, jax.tree.map(np.add, once, once))
    assert evaluator.compute(once) == pytest.approx(evaluator.compute(twice))
    filled = images.at[3].set(images[0])
    again = update(
        evaluator.init(), {**batch, "image": filled, "target": filled}, apply(model, variables, filled)
    )
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-6), again, once)


def test_an_unknown_metric_is_refused_with_the_nearest_ones():
    with pytest.raises(ValueError, match="unknown metric 'code'; did you mean codes.*reconstruction"):
        evaluate.make_evaluators(["code"], evaluate.Setup(CodeSpec((2,), 4), "l2"))


def test_code_figures_are_given_for_each_grid_and_each_code_of_a_position():
    one, deep = CodeSpec((2, 2), 8), CodeSpec((3,), 4, codes_per_position=2)
    assert evaluate.code_suffixes(one) == [[""]]
    assert evaluate.code_suffixes(deep) == [["/0", "/1"]]
    assert evaluate.code_suffixes((one, deep)) == [["/0"], ["/1.0", "/1.1"]]
    usage = evaluate.CodeUsage((one, deep))
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 8, (5, 2, 2)), rng.integers(0, 4, (5, 3, 2))
    valid = np.array([True, True, True, True, False])
    output = types.SimpleNamespace(indices=jax.tree.map(jnp.asarray, codes))
    state = jax.jit(lambda state: usage.update(state, {"valid": valid}, output))(usage.init())
    counts = usage.counts(state)
    assert list(counts) == ["/0", "/1.0", "/1.1"]
    np.testing.assert_array_equal(counts["/0"], np.bincount(codes[0][:4].ravel(), minlength=8))
    np.testing.assert_array_equal(counts["/1.1"], np.bincount(codes[1][:4, :, 1].ravel(), minlength=4))
    figures = usage.compute(state)
    assert figures["used_codes/0"] == len(np.unique(codes[0][:4])) == 8 * figures["usage/0"]
    assert set(figures) == {
        f"{name}{end}" for name in ("perplexity", "usage", "used_codes") for end in counts
    }


def test_the_use_of_billions_of_codes_takes_no_memory_and_the_log_says_so(caplog):
    caplog.set_level("INFO", "vq_jax")
    usage = evaluate.CodeUsage((CodeSpec((2,), 4), CodeSpec((2,), 2**30)))
    assert caplog.messages == [
        "The use of 1,073,741,824 codes is not counted on the held-out set: only that of up to 2^24 is."
    ]
    output = types.SimpleNamespace(indices=(jnp.zeros((1, 2), jnp.int32), jnp.full((1, 2), 2**30 - 1)))
    state = usage.update(usage.init(), {"valid": np.array([True])}, output)
    assert jax.tree.leaves(state) == [] and usage.counts(state) == usage.compute(state) == {}


def test_use_is_counted_at_each_scale():
    quantizer = nn.MultiScaleQuantizer(8, 4, scales=(1, 2, 3))
    usage = evaluate.CodeUsage(quantizer.code_spec((3, 3, 4)))
    codes = tuple(jnp.full((2, size, size), number, jnp.int32) for number, size in enumerate((1, 2, 3)))
    output = types.SimpleNamespace(indices=codes)
    state = usage.update(usage.init(), {"valid": np.array([True, False])}, output)
    figures = usage.compute(state)
    assert [figures[f"used_codes/{scale}"] for scale in range(3)] == [1, 1, 1] and len(figures) == 9
    assert [np.flatnonzero(counts).tolist() for counts in usage.counts(state).values()] == [[0], [1], [2]]
    assert [counts.sum() for counts in usage.counts(state).values()] == [1, 4, 9]


def test_likelihood_is_the_mean_over_valid_pictures():
    evaluator = evaluate.Likelihood()
    valid = np.array([True, False, True])
    metrics = {"loss": jnp.array([1.0, 50.0, 3.0]), "cross_entropy": jnp.array([2.0, 9.0, 4.0])}
    once = evaluator.update(evaluator.init(), {"valid": valid}, metrics)
    for state in (once, evaluator.update(once, {"valid": valid}, metrics)):
        assert evaluator.compute(state) == pytest.approx(
            {"loss": 2.0, "cross_entropy": 3.0, "bits_per_code": 3.0 / math.log(2.0)}
        )


def test_the_distance_of_codes_is_the_total_variation_of_their_distributions():
    spec = CodeSpec((1, 2), 4)
    evaluator = evaluate.CodeDistance(spec)
    held_out, drawn = np.array([[[0, 1]], [[0, 1]], [[3, 3]]]), np.array([[[0, 2]], [[1, 2]], [[3, 3]]])
    batch = {"codes": held_out, "valid": np.array([True, True, False])}
    figures = evaluator.compute(evaluator.update(evaluator.init(), batch, drawn))
    assert figures == {"loss": 0.75, "code_distance": 0.75, "used_codes": 3.0}
    two = evaluate.CodeDistance((spec, spec))
    batch["codes"] = (held_out, held_out)
    figures = two.compute(two.update(two.init(), batch, (drawn, held_out)))
    assert figures == {"loss": 0.375, "code_distance": 0.375, "used_codes/0": 3.0, "used_codes/1": 2.0}
