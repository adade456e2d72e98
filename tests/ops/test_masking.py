"""Mask schedules, counts, random masks and the Halton order."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vq_jax import ops

FORMULAS = {
    "cosine": lambda r: np.cos(np.pi * r / 2),
    "arccos": lambda r: 2 / np.pi * np.arccos(r),
    "linear": lambda r: 1 - r,
    "square": lambda r: 1 - r**2,
}


@pytest.mark.parametrize("schedule", ops.MASK_SCHEDULES)
def test_fractions_follow_their_formulas_from_one_to_zero(schedule):
    r = np.linspace(0.0, 1.0, 33)
    values = ops.mask_fraction(schedule, jnp.asarray(r, jnp.float32))
    np.testing.assert_allclose(values, FORMULAS[schedule](r), atol=1e-6)
    np.testing.assert_allclose(values[jnp.array([0, -1])], [1.0, 0.0], atol=1e-6)
    assert (np.diff(values) < 0).all()


@pytest.mark.parametrize("schedule", ops.MASK_SCHEDULES)
@pytest.mark.parametrize("total,steps", [(256, 12), (16, 12), (16, 16), (49, 8), (12, 3), (5, 8)])
def test_counts_are_the_floor_of_the_formula_and_each_step_decides_some(schedule, total, steps):
    counts = [ops.masked_count(schedule, total, step, steps) for step in range(steps + 1)]
    assert counts[0] == total and counts[-1] == 0
    for step, count in enumerate(counts[1:-1], start=1):
        formula = math.floor(round(total * FORMULAS[schedule](step / steps), 9))
        assert count == max(0, min(formula, total - step))
    if steps <= total:
        assert (np.diff(counts) < 0).all()


def test_counts_of_the_cosine_schedule_worked_by_hand():
    # 64 cos(pi / 6), cos(pi / 3)
    assert [ops.masked_count("cosine", 64, step, 3) for step in range(4)] == [64, 55, 32, 0]


@pytest.mark.parametrize("schedule", ops.MASK_SCHEDULES)
def test_random_masks_cover_the_expected_share_and_hide_at_least_one(getkey, schedule):
    masks = np.asarray(jax.jit(ops.random_mask, static_argnums=(1, 2))(getkey(), (4096, 4, 4), schedule))
    counts = masks.reshape(4096, -1).sum(1)
    assert counts.min() >= 1 and counts.max() <= 16
    mean = FORMULAS[schedule]((np.arange(10**5) + 0.5) / 10**5)
    # standard error of the mean below 0.005
    np.testing.assert_allclose(counts.mean(), np.clip(np.ceil(16 * mean), 1, 16).mean(), atol=0.25)
    positions = masks.mean(0)
    np.testing.assert_allclose(positions, positions.mean(), atol=0.04)  # no position is preferred


@pytest.mark.parametrize("grid", [(9,), (4, 4), (7, 5), (3, 4, 5)])
def test_halton_order_is_a_permutation_that_spreads_evenly(grid):
    order = ops.halton_order(grid)
    assert sorted(order) == list(range(math.prod(grid)))
    if grid == (4, 4):
        # points (1/2, 1/3), (1/4, 2/3), (3/4, 1/9), (1/8, 4/9)
        np.testing.assert_array_equal(order[:4], [9, 6, 12, 1])
        quadrants = {(index // 8, index % 4 // 2) for index in order[:6]}
        assert len(quadrants) == 4


def test_wrong_schedules_steps_and_grids_are_refused(getkey):
    for call in (
        lambda: ops.mask_fraction("cubic", jnp.zeros(())),
        lambda: ops.masked_count("cubic", 4, 0, 2),
        lambda: ops.random_mask(getkey(), (1, 4), "cubic"),
    ):
        with pytest.raises(ValueError, match="expected a mask schedule out of cosine, .*, got 'cubic'"):
            call()
    with pytest.raises(ValueError, match="got step 3 of 2"):
        ops.masked_count("cosine", 4, 3, 2)
    with pytest.raises(ValueError, match="one to four axes"):
        ops.halton_order(())
