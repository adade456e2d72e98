"""Tasks as masks: what is given in each, and what of it a mask leaves alone."""

import jax
import numpy as np
import pytest

from vq_jax import ops
from vq_jax.ops.given_codes import check_tasks

GRID, BATCH = (4, 3, 5), 2000


def drawn(*tasks, grid=GRID, batch=BATCH):
    given = jax.jit(lambda rng: ops.given_codes(rng, batch, grid, tasks))(jax.random.key(0))
    return np.asarray(given)


def test_first_frames_are_given_whole_and_as_many_as_may_be_equally_often():
    given = drawn("prediction")
    frames = given.all(axis=(2, 3))
    assert (frames == given.any(axis=(2, 3))).all() and frames[:, 0].all() and not frames[:, -1].any()
    assert (np.diff(frames.astype(int), axis=1) <= 0).all()
    counts = np.bincount(frames.sum(axis=1), minlength=4)[1:]
    # 3 kinds out of 2,000: a standard deviation is 21
    assert (abs(counts - BATCH / 3) < 5 * 21).all()


def test_all_but_the_last_code_in_time_may_be_given():
    given = drawn("next", batch=3)
    assert given[:, :-1].all() and not given[:, -1].any()


def test_first_and_last_frames_leave_some_between():
    frames = drawn("interpolation").all(axis=(2, 3))
    assert frames[:, 0].all() and frames[:, -1].all() and not frames.all(axis=1).any()
    assert {tuple(row) for row in frames.tolist()} == {
        (True, False, False, True),
        (True, True, False, True),
        (True, False, True, True),
    }


@pytest.mark.parametrize("task", ["inpainting", "outpainting"])
def test_a_box_is_left_out_or_given(task):
    given = drawn(task)
    box = ~given if task == "inpainting" else given
    box = box[box.any(axis=(1, 2, 3))]
    along = [box.any(axis=tuple(other for other in (1, 2, 3) if other != axis)) for axis in (1, 2, 3)]
    np.testing.assert_array_equal(box, np.einsum("bt,bh,bw->bthw", *along))
    for axis, lengths in enumerate(along):
        steps = np.diff(np.pad(lengths.astype(int), [(0, 0), (1, 1)]), axis=1)
        assert ((steps == 1).sum(axis=1) == 1).all()  # one piece
        assert set(lengths.sum(axis=1)) == set(range(1, GRID[axis] + 1))
    assert not given.all(axis=(1, 2, 3)).any()


def test_tasks_are_drawn_as_often_as_they_are_named():
    given = drawn("generation", "generation", "generation", "prediction")
    share = given.any(axis=(1, 2, 3)).mean()
    assert abs(share - 0.25) < 5 * 0.01  # a standard deviation of the share is 0.01


@pytest.mark.parametrize("schedule", ["cosine", "linear"])
def test_masks_leave_given_codes_alone_and_take_their_share_of_the_others(schedule):
    given = drawn("prediction", "inpainting")
    masks = jax.jit(lambda rng, given: ops.random_mask(rng, given.shape, schedule, given))
    mask = np.asarray(masks(jax.random.key(1), given))
    assert not (mask & given).any()
    masked, others = mask.sum(axis=(1, 2, 3)), (~given).sum(axis=(1, 2, 3))
    assert (masked >= 1).all() and (masked <= others).all()
    # r uniform: the mean of gamma(r) is 2 / pi for the cosine and 1 / 2 for the line; ceil adds below 1 / 15
    mean = {"cosine": 2 / np.pi, "linear": 0.5}[schedule]
    assert mean - 0.03 < (masked / others)[others >= 15].mean() < mean + 0.1


def test_tasks_that_the_grid_does_not_have_are_refused():
    with pytest.raises(ValueError, match="expected tasks out of generation, .*, at least one, got \\(\\)"):
        check_tasks((), GRID)
    with pytest.raises(ValueError, match="expected tasks out of"):
        check_tasks(("guessing",), GRID)
    with pytest.raises(ValueError, match=r"prediction is about frames: .* at least 2 .* \(4, 4\)"):
        check_tasks(("prediction",), (4, 4))
    with pytest.raises(ValueError, match="interpolation is about frames: .* at least 3"):
        check_tasks(("interpolation",), (2, 4, 4))
    check_tasks(("inpainting", "outpainting"), (4, 4))
