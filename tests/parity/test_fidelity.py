"""Distances of sets, inception scores, precision and recall against pytorch-fid and torch-fidelity.

Inception has the same random weights on both sides: the published ones are not there to test with.
"""

import warnings

import jax
import numpy as np
import pytest
from random_inception import random_inception, save_for_torch

from vq_jax import evaluate
from vq_jax.nn.features.inception import CLASSES, inception_network

REASON = "pip install vq-jax[parity]"
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of their imports
    torch = pytest.importorskip("torch", reason=REASON)
    pytest.importorskip("torch_fidelity", reason=REASON)
    pytest.importorskip("pytorch_fid", reason=REASON)
    from pytorch_fid import fid_score
    from pytorch_fid import inception as fid_inception
    from torch_fidelity import metric_isc, metric_kid, metric_prc
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

pytestmark = pytest.mark.filterwarnings("ignore:The `disp` argument:DeprecationWarning")  # theirs, of SciPy
QUIET = {"verbose": False, "prc_batch_size": 64, "save_cpu_ram": False, "rng_seed": 1}


@pytest.fixture(scope="module")
def tensors():
    return random_inception()


def pictures(seed, count, size=40):
    return np.random.default_rng(seed).integers(0, 256, (count, size, size + 8, 3), np.uint8)


def blocks(seed, side):
    """A picture of squares."""
    return np.repeat(np.repeat(pictures(seed, 1, 40 // side)[:, :, : 40 // side], side, axis=1), side, axis=2)


def distance(a, b):
    return evaluate.frechet_distance(a.mean, a.covariance, b.mean, b.covariance)


def as_torch(images):
    return torch.from_numpy(images.transpose(0, 3, 1, 2).copy())


@pytest.fixture(scope="module")
def their_fidelity(tensors, tmp_path_factory):
    path = save_for_torch(tensors, tmp_path_factory.mktemp("weights") / "inception.pth")
    return FeatureExtractorInceptionV3("inception", ["2048", "logits_unbiased"], str(path))


def test_features_and_logits_of_inception_are_torch_fidelitys(tensors, their_fidelity):
    network = inception_network(tensors, source="a test")
    images = pictures(0, 3)
    ours = jax.jit(network)(network.weights, images)
    with torch.no_grad():
        pooled, logits = their_fidelity(as_torch(images))
    assert ours.logits.shape == (3, CLASSES)
    for found, expected in zip(ours, (pooled.numpy(), logits.numpy()), strict=True):
        scale = np.abs(expected).max()
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * scale)


def test_the_distance_is_pytorch_fids_from_pictures_to_figure(tensors, monkeypatch):
    state = {name: torch.from_numpy(array) for name, array in tensors.items()}
    monkeypatch.setattr(fid_inception, "load_state_dict_from_url", lambda *_, **__: state)
    loaded = torch.nn.Module.load_state_dict
    monkeypatch.setattr(
        torch.nn.Module, "load_state_dict", lambda self, given: loaded(self, given, strict=False)
    )
    theirs = fid_inception.InceptionV3([3]).eval()
    network = inception_network(tensors, source="a test", half_pixels=True)
    compute = jax.jit(network)
    both, statistics = [], []
    for seed in range(2):
        images = np.concatenate([blocks(seed, side) for side in (1, 2, 4, 8, 20, 40)])
        with torch.no_grad():
            expected = theirs(as_torch(images).float() / 255)[0][:, :, 0, 0].numpy()
        found = np.asarray(compute(network.weights, images).pooled)
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())
        # Of fewer features than pictures: their root of a singular matrix of 2048 rows takes half a minute.
        found, expected = (rows[:, ::700].astype(np.float64) for rows in (found, expected))
        both.append(evaluate.empty_set(3).added(found).statistics(""))
        statistics.append((expected.mean(axis=0), np.cov(expected, rowvar=False)))
    found = distance(*both)
    expected = fid_score.calculate_frechet_distance(*statistics[0], *statistics[1])
    assert found == pytest.approx(expected, rel=1e-3)


def features(seed, count, width=24, shift=0.0):
    return (np.random.default_rng(seed).standard_normal((count, width)) + shift).astype(np.float32)


def test_the_frechet_distance_of_sets_of_full_rank_is_pytorch_fids():
    a, b = features(0, 400), 1.3 * features(1, 300, shift=0.2)
    ours = [evaluate.empty_set(24).added(rows).statistics("") for rows in (a, b)]
    theirs = [(rows.mean(axis=0), np.cov(rows, rowvar=False)) for rows in (a, b)]
    expected = fid_score.calculate_frechet_distance(*theirs[0], *theirs[1])
    assert distance(*ours) == pytest.approx(expected, rel=1e-5)


def test_the_kernel_distance_is_torch_fidelitys():
    a, b = features(0, 90), features(1, 90, shift=0.3)
    theirs = metric_kid.kid_features_to_metric(
        torch.from_numpy(a), torch.from_numpy(b), kid_subsets=1, kid_subset_size=90, **QUIET
    )
    mean, _ = evaluate.kernel_distance(a, b)
    assert mean == pytest.approx(theirs["kernel_inception_distance_mean"], rel=1e-4)


def test_the_inception_score_is_torch_fidelitys():
    """Ours deals the pictures out to the splits in turn, theirs cuts them into parts after a shuffle."""
    logits = 2 * features(2, 120, 10)
    ours = evaluate.empty_set(1, 10)
    for part in np.split(logits, 3):
        ours = ours.added(np.zeros((40, 1), np.float32), part)
    dealt = np.concatenate([logits[split::10] for split in range(10)])
    theirs = metric_isc.isc_features_to_metric(torch.from_numpy(dealt), shuffle=False)
    assert ours.class_score() == pytest.approx(
        (theirs["inception_score_mean"], theirs["inception_score_std"]), rel=1e-5
    )


def test_precision_and_recall_are_torch_fidelitys():
    real, made = features(3, 150, 4), 0.6 * features(4, 130, 4, shift=0.4)
    theirs = metric_prc.prc_features_to_metric(
        torch.from_numpy(made), torch.from_numpy(real), prc_neighborhood=3, **QUIET
    )
    ours = evaluate.precision_recall(real, made)
    assert ours == pytest.approx({name: theirs[name] for name in ("precision", "recall")}, abs=1e-6)
    assert 0.0 < ours["recall"] < ours["precision"] < 1.0
