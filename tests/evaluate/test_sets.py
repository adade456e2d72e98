"""Distances between sets of features, by hand-worked cases; other projects' are in tests/parity."""

import dataclasses
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vq_jax import evaluate, ops
from vq_jax.errors import UserError
from vq_jax.nn.features.feature_network import FeatureNetwork, Features
from vq_jax.train.sharding import batch_sharding, local_mesh
from vq_jax.types import CodeSpec

COLOURS = FeatureNetwork(
    name="colours",
    width=3,
    classes=3,
    smallest=1,
    description="mean colour",
    weights=jnp.float32(1 / 255),
    compute=lambda scale, x: Features(
        jnp.mean(scale * x.astype(jnp.float32), axis=(1, 2)), jnp.mean(x.astype(jnp.float32), axis=(1, 2))
    ),
)


def rows(seed, count, width=5, shift=0.0):
    return (np.random.default_rng(seed).standard_normal((count, width)) + shift).astype(np.float32)


def summed(features):
    return evaluate.empty_set(features.shape[1]).added(features)


def test_the_frechet_distance_of_normals_that_share_axes():
    """Between diagonal covariances it is the squared distance of means and of standard deviations."""
    a, b = np.array([1.0, 4.0, 0.0]), np.array([9.0, 4.0, 0.0])
    found = evaluate.frechet_distance(np.zeros(3), np.diag(a), np.array([0.0, 3.0, 0.0]), np.diag(b))
    assert found == pytest.approx(9.0 + 4.0)
    assert evaluate.frechet_distance(np.zeros(3), np.diag(a), np.zeros(3), np.diag(a)) == pytest.approx(0.0)


def test_moments_do_not_depend_on_batches_and_sets_add_up():
    features = rows(0, 40, shift=100.0)
    whole = summed(features).statistics("")
    np.testing.assert_allclose(whole.mean, features.mean(axis=0, dtype=np.float64), rtol=1e-12)
    np.testing.assert_allclose(whole.covariance, np.cov(features.astype(np.float64).T), atol=1e-9)
    parts = summed(features[:7]).added(features[7:30])
    joined = (parts + summed(features[30:])).statistics("")
    for name in ("mean", "covariance"):
        np.testing.assert_allclose(getattr(joined, name), getattr(whole, name), atol=1e-9)
    assert joined.count == 40 and np.array_equal(joined.rows, features)


def test_of_many_pictures_an_even_draw_is_kept(monkeypatch):
    monkeypatch.setattr("vq_jax.evaluate.feature_sets.KEPT", 100)
    numbers = np.arange(4000, dtype=np.float32)[:, None]
    kept = evaluate.empty_set(1)
    for part in np.split(numbers, 40):
        kept = kept.added(part)
    assert kept.count == 4000 and kept.rows.shape == (100, 1)
    assert np.all(np.diff(kept.rows[:, 0]) > 0) and abs(kept.rows.mean() - 2000) < 400


def test_the_kernel_distance_of_a_set_to_itself_in_two_halves_is_near_zero():
    near, _ = evaluate.kernel_distance(rows(0, 300), rows(1, 300))
    far, spread = evaluate.kernel_distance(rows(0, 300), rows(1, 300, shift=1.0), size=100)
    assert abs(near) < 0.05 < 1.0 < far and 0.0 < spread < far
    with pytest.raises(ValueError, match="at least two rows"):
        evaluate.kernel_distance(rows(0, 1), rows(1, 9))


def test_precision_and_recall_and_density_and_coverage_of_points_on_a_line():
    real = np.array([[0.0], [1.0], [2.0], [3.0], [100.0]], np.float32)
    made = np.array([[0.5], [1.4], [50.0]], np.float32)
    # With 1 neighbour, the made features' radii are 0.9, 0.9 and 48.6, the real ones' 1, 1, 1, 1 and 97.
    found = evaluate.precision_recall(real, made, neighbours=1)
    assert found == {"precision": 1.0, "recall": pytest.approx(4 / 5)}
    found = evaluate.density_coverage(real, made, neighbours=1)
    # 0.5 lies near 0 and 1, 1.4 near 1 and 2, and 50 within 97 of 100; nothing near 3.
    assert found == {"density": pytest.approx(5 / 3), "coverage": pytest.approx(4 / 5)}
    with pytest.raises(ValueError, match="more than 5 pictures for as many neighbours, got 5"):
        evaluate.density_coverage(real, made)


def test_the_score_of_classes_is_their_number_where_each_is_certain_and_as_frequent():
    certain = np.where(np.eye(4, dtype=bool), 0.0, -1e9)
    both = evaluate.empty_set(1, 4)
    for _ in range(10):
        both = both.added(np.zeros((4, 1), np.float32), certain)
    mean, spread = both.class_score()
    assert 1.9 < mean < 4.0  # splits of four pictures need not have all classes
    assert evaluate.empty_set(1, 4).added(np.zeros((40, 1)), np.zeros((40, 4))).class_score() == (1.0, 0.0)
    with pytest.raises(ValueError, match="at least 10 pictures with classes"):
        evaluate.empty_set(1, 4).added(np.zeros((9, 1)), np.zeros((9, 4))).class_score()


def test_metrics_of_sets_from_pictures_and_on_four_devices():
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 200 + 20 * side, (14, 4, 4, 3), np.uint8) for side in range(2)]
    chosen = evaluate.choose_set_metrics(
        ["fd-colours", "kd-colours", "prdc-colours"], {"colours": lambda: COLOURS}
    )
    figures = []
    for sharding in (None, batch_sharding(local_mesh())):
        extractor = evaluate.Extractor(chosen, sharding)
        made, real = (
            extractor.added(extractor.added(extractor.empty(), some[:8], 8), some[6:], 6) for some in pictures
        )
        reference = {key: found.statistics("") for key, found in real.items()}
        figures.append(evaluate.set_figures(chosen, reference, made))
    seen = [np.concatenate([some[:8], some[6:12]]).mean((1, 2)) / 255 for some in pictures]
    a, b = (summed(features).statistics("") for features in seen)
    expected = evaluate.frechet_distance(a.mean, a.covariance, b.mean, b.covariance)
    assert figures[0]["fd-colours"] == pytest.approx(expected, rel=1e-4)
    assert set(figures[0]) == {
        f"{name}-colours" for name in ("fd", "kd", "kd_std", "precision", "recall", "density", "coverage")
    }
    assert figures[1] == pytest.approx(figures[0], rel=1e-5)


def test_only_the_published_network_gives_fid():
    published = dataclasses.replace(COLOURS, is_reference=True)
    chosen = evaluate.choose_set_metrics(["fd-colours", "is-colours"], {"colours": lambda: published})
    made = {chosen[0].key: evaluate.empty_set(3, 3).added(rows(1, 10, 3), rows(2, 10, 3))}
    figures = evaluate.set_figures(chosen, {chosen[0].key: summed(rows(3, 30, 3)).statistics("")}, made)
    assert set(figures) == {"fid", "inception_score", "inception_score_std"}


def test_a_network_of_clips_has_one_row_a_clip_and_names_of_its_own():
    network = dataclasses.replace(
        COLOURS,
        fewest_frames=3,
        is_reference=True,
        reference_names={"fd": "fvd"},
        compute=lambda scale, x: Features(jnp.mean(scale * x.astype(jnp.float32), axis=(1, 2, 3)), None),
        classes=0,
    )
    (chosen,) = evaluate.choose_set_metrics(["fd-colours"], {"colours": lambda: network})
    clips = np.random.default_rng(0).integers(0, 256, (2, 9, 4, 5, 4, 1), np.uint8)
    extractor, sets = evaluate.Extractor([chosen], batch_sharding(local_mesh())), []
    for some in clips:
        sets.append(extractor.added(extractor.added(extractor.empty(), some[:8], 8), some[8:], 1)[chosen.key])
        seen = np.repeat(some.mean((1, 2, 3)) / 255, 3, axis=1)
        assert sets[-1].count == 9
        np.testing.assert_allclose(sets[-1].rows, seen, rtol=1e-5)
    assert set(chosen.figures(sets[0].statistics(""), sets[1])) == {"fvd"}
    for wrong in (clips[0, :, 0], clips[0, :, :2]):
        with pytest.raises(UserError, match="clips of at least 3 frames for the features of colours"):
            extractor.added(extractor.empty(), wrong, 4)


def test_motion_is_of_the_differences_of_frames():
    clips = np.random.default_rng(0).integers(0, 256, (3, 4, 2, 2, 1), np.uint8)
    found = evaluate.frame_differences(clips)
    expected = (np.diff(clips.astype(int), axis=1) + 255) // 2
    np.testing.assert_array_equal(found, expected)
    assert found.dtype == np.uint8
    (chosen,) = evaluate.choose_set_metrics(["fd-motion-colours"], {"colours": lambda: COLOURS})
    extractor = evaluate.Extractor([chosen])
    assert extractor.added(extractor.empty(), clips, 2)[chosen.key].count == 6
    with pytest.raises(UserError, match="clips of 2 frames or more for a figure of motion"):
        evaluate.frame_differences(clips[:, 0])


def test_what_cannot_be_compared_is_refused_and_what_is_worth_little_is_said():
    networks = {"colours": lambda: COLOURS}
    with pytest.raises(ValueError, match="unknown feature network 'colour'; did you mean colours"):
        evaluate.choose_set_metrics(["fd-colour"], networks)
    with pytest.raises(ValueError, match="unknown metric of sets 'fid'"):
        evaluate.choose_set_metrics(["fid-colours"], networks)
    with pytest.raises(ValueError, match="expected a network with classes for is-colours"):
        plain = dataclasses.replace(COLOURS, classes=0)
        evaluate.choose_set_metrics(["is-colours"], {"colours": lambda: plain})
    chosen = evaluate.choose_set_metrics(["fd-colours", "kd-colours"], networks)
    key, made = chosen[0].key, {chosen[0].key: summed(rows(0, 2, 3))}
    with pytest.raises(UserError, match="fd-colours compares two sets: give the other one with --against"):
        evaluate.set_figures(chosen, {}, made)
    with pytest.raises(UserError, match="the statistics have 5 features, and colours has 3"):
        evaluate.set_figures(chosen, {key: summed(rows(1, 9)).statistics("")}, made)
    known = summed(rows(1, 9, 3)).statistics("")
    (warning,) = evaluate.worth(chosen, {key: known}, made)
    assert warning.startswith("fd-colours of 2 pictures for 3 features is biased upwards")
    without = dataclasses.replace(known, rows=known.rows[:0])
    with pytest.raises(UserError, match="kd-colours needs the features of the reference"):
        evaluate.set_figures(chosen, {key: without}, made)


def test_ssim_on_the_device_is_scikit_images():
    rng = np.random.default_rng(0)
    a = rng.integers(0, 256, (2, 12, 9, 3), np.uint8)
    b = np.clip(a.astype(int) + rng.integers(-30, 30, a.shape), 0, 255).astype(np.uint8)
    compute = jax.jit(evaluate.picture_ssim)
    expected = [evaluate.ssim(x, y) for x, y in zip(a, b, strict=True)]
    np.testing.assert_allclose(compute(a, b), expected, atol=1e-5)
    np.testing.assert_allclose(compute(a[None], b[None]), [np.mean(expected)], atol=1e-5)
    assert compute(a[:, :5, :5], b[:, :5, :5]).shape == (2,)


def test_bits_a_pixel_are_those_of_the_codes_and_of_their_entropy():
    specs = (CodeSpec((2, 2), 16), CodeSpec((4,), 4, codes_per_position=2))
    rate = evaluate.Rate(specs)
    codes = np.zeros((2, 2, 2), np.int32), np.array([[[0, 1], [0, 2], [0, 1], [0, 2]]] * 2, np.int32)
    batch = {"target": np.zeros((2, 8, 8, 3), np.float32), "valid": np.array([True, False])}
    output = types.SimpleNamespace(indices=jax.tree.map(jnp.asarray, codes))
    figures = rate.compute(rate.update(rate.init(), batch, output))
    assert figures == {
        "bits_per_pixel": (4 * 4 + 8 * 2) / 64,
        "entropy_bits_per_pixel": 4 / 64,  # one bit for the second code of each of 4 positions
        **{"entropy/0": 0.0, "entropy/1.0": 0.0, "entropy/1.1": 1.0},
    }
    with pytest.raises(ValueError, match="the quantizer was bypassed"):
        rate.update(rate.init(), batch, types.SimpleNamespace(indices=None))


def test_bilinear_matrices_place_pixels_as_areas_or_as_corners():
    np.testing.assert_allclose(ops.bilinear_matrix(2, 4), [[1, 0], [0.75, 0.25], [0.25, 0.75], [0, 1]])
    np.testing.assert_allclose(ops.corner_bilinear_matrix(2, 4), [[1, 0], [0.5, 0.5], [0, 1], [0, 1]])
    np.testing.assert_allclose(ops.corner_bilinear_matrix(4, 2), [[1, 0, 0, 0], [0, 0, 1, 0]])
    np.testing.assert_allclose(ops.bilinear_matrix(1, 3), np.ones((3, 1)))
