"""Figures of merit against scikit-image and NumPy; sums of batches against the whole."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import skimage.metrics

from vq_jax import evaluate, nn, ops

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
    return model, model.init(jax.random.key(0), jnp.zeros((1, 16, 16, 3)))


def run(model_and_variables, batches, quantize=True):
    model, variables = model_and_variables

    @jax.jit
    def step(batch):
        return evaluate.evaluation_step(
            variables["params"],
            variables["codebook"],
            batch,
            model=model,
            reconstruction="l2",
            quantize=quantize,
        )

    return evaluate.evaluate(step, batches)


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
    np.testing.assert_array_equal(counts, split_counts)
    for name in whole:
        assert split[name] == pytest.approx(whole[name], rel=1e-5), name


def test_figures_match_numpy(model_and_variables):
    model, variables = model_and_variables
    images = pictures(4, 5)
    figures, counts = run(model_and_variables, [{"image": images, "valid": np.ones(5, bool)}])
    normalized = np.asarray(ops.normalize_pictures(images), np.float64)
    out = model.apply(variables, jnp.asarray(normalized, jnp.float32))
    error = np.mean((np.asarray(out.reconstruction, np.float64) - normalized) ** 2)
    assert figures["loss"] == pytest.approx(error, rel=1e-4)
    assert figures["nmse"] == pytest.approx(error / normalized.var(), rel=1e-4)
    expected = np.bincount(np.asarray(out.indices).ravel(), minlength=16)
    np.testing.assert_array_equal(counts, expected)
    assert figures["used_codes"] == np.sum(expected > 0) == 16 * figures["usage"]
    p = expected / expected.sum()
    entropy = -np.sum(p[p > 0] * np.log(p[p > 0]))
    assert figures["perplexity"] == pytest.approx(np.exp(entropy), rel=1e-4)


def test_passing_the_quantizer_by_leaves_out_the_code_figures(model_and_variables):
    batch = {"image": pictures(5, 2), "valid": np.ones(2, bool)}
    figures, counts = run(model_and_variables, [batch], quantize=False)
    assert counts.size == 0 and set(figures) == {"loss", "psnr", "nmse"}


def test_an_empty_set_is_refused(model_and_variables):
    with pytest.raises(ValueError, match="at least one batch"):
        run(model_and_variables, [])
