"""The noise generator: shapes, that noise and class matter, and what it refuses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jitted import apply, drawn

from vq_jax.nn import Condition, NoiseGenerator

SMALL = {"noise_dim": 6, "width": 8, "num_blocks": 1}


@pytest.mark.parametrize("grid", [(5,), (3, 4), (2, 2, 3)])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_noise_and_class_make_a_grid_of_latents(grid, dtype):
    model = NoiseGenerator(16, grid, 4, **SMALL, num_classes=3, dtype=dtype)
    noise = np.random.default_rng(0).standard_normal((2, 6), np.float32)
    condition, other_labels = (Condition(jnp.asarray(labels, jnp.int32)) for labels in ([0, 2], [2, 0]))
    variables = drawn(model, noise, condition, std=0.5)
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(variables))
    latents = np.asarray(apply(model, variables, noise, condition))
    assert latents.shape == (2, *grid, 4) and latents.dtype == np.float32
    other_noise = apply(model, variables, -noise, condition)
    other_class = apply(model, variables, noise, other_labels)
    for other in (other_noise, other_class):
        assert (np.abs(latents - other).max(axis=(1, -1)) > 1e-2).all()


def test_mistakes_are_refused(getkey):
    with pytest.raises(ValueError, match="NoiseGenerator.noise_dim must be at least 1, got 0"):
        NoiseGenerator(16, (2, 2), 4, noise_dim=0)
    plain, labelled = (NoiseGenerator(16, (2, 2), 4, **SMALL, num_classes=classes) for classes in (None, 3))
    noise, labels = jnp.zeros((2, 6)), jnp.zeros((2,), jnp.int32)
    with pytest.raises(ValueError, match=r"expected noise of shape \[B, 6\], got \(2, 5\)"):
        plain.init(getkey(), noise[:, :5])
    with pytest.raises(ValueError, match="is unconditional"):
        plain.init(getkey(), noise, Condition(labels))
    with pytest.raises(ValueError, match="conditioned on 3 classes: give condition.labels"):
        labelled.init(getkey(), noise)
    with pytest.raises(ValueError, match="sample with guidance 1"):
        _ = labelled.null_label
