"""The share of codes in use in the last steps, against counting by hand."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from vq_jax.train.state import GeneratorState, never_used
from vq_jax.train.steps import code_use
from vq_jax.types import CodeSpec


def test_usage_is_that_of_the_codes_of_the_last_steps_for_each_grid_and_stage(monkeypatch):
    monkeypatch.setattr(code_use, "WINDOW", 3)
    specs = (CodeSpec((2,), 8), CodeSpec((3,), 5, 2))
    state = GeneratorState(jnp.int32(0), {}, {}, (), None, never_used(specs))
    track = jax.jit(code_use.track_use)
    rng, seen = np.random.default_rng(0), []
    for step in range(1, 8):
        codes = (rng.integers(0, 8, (1, 2), np.int32), rng.integers(0, 5, (1, 3, 2), np.int32))
        seen.append([codes[0].ravel(), codes[1][..., 0].ravel(), codes[1][..., 1].ravel()])
        state, metrics = track(dataclasses.replace(state, step=jnp.int32(step)), codes)
        expected = [len(set(np.concatenate(kind))) for kind in zip(*seen[-3:], strict=True)]
        found = [float(metrics[f"window/usage/{name}"]) for name in ("0", "1.0", "1.1")]
        np.testing.assert_allclose(found, np.array(expected) / [8, 5, 5], rtol=1e-6)


def test_nothing_is_marked_without_codes_or_for_billions_of_them():
    assert never_used(CodeSpec((2,), 2**30)) is None
    state = GeneratorState(jnp.int32(1), {}, {}, (), None, never_used(CodeSpec((2,), 4)))
    assert code_use.track_use(state, None) == (state, {})
    without = dataclasses.replace(state, last_used=None)
    assert code_use.track_use(without, jnp.zeros((1, 2), jnp.int32)) == (without, {})
