"""Clips drawn, continued and filled by a prior of clips, and its refusals."""

import numpy as np
import pytest
from clip_runs import FRAMES, SIDE, clip_prior, clips, next_frame_prior
from prior_runs import untrained_prior

import vq_jax
from vq_jax.errors import UserError
from vq_jax.pretrained.filling import context_frames
from vq_jax.pretrained.prior import Prior


def test_clips_are_drawn_longer_and_shorter_than_in_training_each_by_itself():
    prior = clip_prior()
    drawn = prior.sample(3, frames=13, batch_size=2, steps=2)
    assert drawn.shape == (3, 13, SIDE, SIDE, 1) and drawn.dtype == np.uint8
    np.testing.assert_array_equal(drawn[:, :FRAMES], prior.sample(3, steps=2))
    np.testing.assert_array_equal(drawn[:1, :4], prior.sample(1, frames=4, steps=2))
    np.testing.assert_array_equal(drawn, prior.sample(3, frames=13, batch_size=3, steps=2))


def test_predicted_frames_depend_on_the_given_ones_alone_and_go_on_window_by_window():
    prior, given = clip_prior(), clips(2, 5)
    short = prior.predict(given, steps=2)
    assert short.shape == (2, FRAMES - 5, SIDE, SIDE, 1)
    long = prior.predict(given, 10, steps=2)
    np.testing.assert_array_equal(long[:, : FRAMES - 5], short)
    # one window further: what was drawn last is what the next begins with
    assert long.shape[1] == 10 and not np.array_equal(long[:, 4:8], short)
    later = np.concatenate([clips(2, 4), given], axis=1)  # frames before those that fit into half a window
    np.testing.assert_array_equal(prior.predict(later, steps=2), short)
    np.testing.assert_array_equal(prior.predict(given[:1], steps=2), short[:1])
    assert not np.array_equal(prior.predict(given, steps=2, seed=1), short)


@pytest.fixture
def decoded(monkeypatch):
    """The codes that the prior's tokenizer decodes."""
    prior, seen = clip_prior(), []
    decode = prior.tokenizer.decode

    def spy(codes, *args, **options):
        seen.append(codes)
        return decode(codes, *args, **options)

    monkeypatch.setattr(prior.tokenizer, "decode", spy)
    return seen


def test_known_codes_of_given_frames_are_kept(decoded):
    prior, given = clip_prior(), clips(1, 5)
    prior.predict(given, steps=2)
    np.testing.assert_array_equal(decoded[0][:, :2], prior.tokenizer.encode(given))


def test_frames_between_are_drawn_given_both_ends(decoded):
    prior, whole = clip_prior(), clips(2)
    between = prior.interpolate(whole[:, :1], whole[:, 5:], steps=2)
    assert between.shape == (2, 4, SIDE, SIDE, 1)
    covered = whole.copy()
    covered[:, 1:3], covered[:, 3:5] = whole[:, :1], whole[:, 5:6]  # by the frame that is nearer
    known = prior.tokenizer.encode(covered)
    np.testing.assert_array_equal(decoded[0][:, [0, 2]], known[:, [0, 2]])


def test_a_hole_in_space_and_time_leaves_the_rest_as_it_is():
    prior, whole = clip_prior(), clips(1)
    mask = np.zeros((FRAMES, SIDE, SIDE), bool)
    mask[5:, 2:7, 2:7] = True
    filled = prior.inpaint(whole, mask, ring=0, steps=2)
    changed = (filled != whole)[0, ..., 0]
    assert changed[mask].any() and not changed[:5].any() and not changed[5:, 8:].any()
    wider = prior.outpaint(whole, right=8, steps=2, ring=0)
    np.testing.assert_array_equal(wider[:, :, :, :SIDE], whole)


@pytest.mark.parametrize("given, context", [(1, 1), (4, 1), (5, 5), (40, 5)])
def test_the_given_frames_that_are_looked_at_fill_whole_codes(given, context):
    assert context_frames(clip_prior(), given) == context


@pytest.mark.parametrize("tasks, context", [(("next", "prediction"), 9), (("next", "generation"), 13)])
def test_a_prior_that_learnt_the_next_code_alone_looks_at_all_others(tasks, context):
    small = clip_prior()
    model = small.model.clone(grid=(5, 4, 4), tasks=tasks)
    prior = Prior(model, {}, small.tokenizer, small.config, 0, SIDE, 17)
    assert context_frames(prior, 17) == context and context_frames(prior, 9) == 9


def test_what_cannot_be_continued_is_refused(tmp_path):
    prior = clip_prior()
    with pytest.raises(UserError, match=r"expected a context of 1 \+ a multiple of 4 frames, up to 5, got 3"):
        prior.predict(clips(1, 5), context=3)
    with pytest.raises(UserError, match=r"expected a context of 1 .* up to 5, got 9"):
        prior.predict(clips(1, 9), context=9)
    with pytest.raises(UserError, match="expected clips of 32 x 32 px, .* got 16 x 32"):
        prior.predict(clips(1, 5)[:, :, :, :16])
    with pytest.raises(UserError, match="expected at least 1 frame to draw, got 0"):
        prior.predict(clips(1, 5), 0)
    with pytest.raises(UserError, match="expected at least 1 frame, got 0"):
        prior.sample(1, frames=0)
    with pytest.raises(UserError, match="expected clips of 9 frames, which this prior draws, got 5"):
        prior.inpaint(clips(1, 5), np.arange(5 * SIDE * SIDE).reshape(5, SIDE, SIDE) % 2 == 0)
    with pytest.raises(UserError, match="the first and the last of 9 frames with some between them"):
        prior.interpolate(clips(1, 5), clips(1, 4))
    of_pictures = vq_jax.load(untrained_prior(tmp_path / "pictures", "maskgit"))
    for refused in (lambda: of_pictures.predict(clips(1, 5)), lambda: of_pictures.sample(1, frames=4)):
        with pytest.raises(UserError, match="draws pictures, not clips: give one over the codes of"):
            refused()


@pytest.mark.ci  # compiled for each number of frames
def test_a_prior_of_frames_goes_on_from_codes_and_draws_any_length():
    prior, given = next_frame_prior(), clips(3, 5)
    short = prior.predict(given, steps=2)  # what six frames leave
    assert short.shape == (3, 3, SIDE, SIDE, 1) and short.dtype == np.uint8
    np.testing.assert_array_equal(prior.predict(given, 7, steps=2)[:, :3], short)
    np.testing.assert_array_equal(prior.predict(given[:, -3:], steps=2), short)  # it sees three frames
    np.testing.assert_array_equal(prior.predict(given[:1], steps=2), short[:1])
    assert not np.array_equal(prior.predict(given, 3, context=5, steps=2), short)
    drawn = prior.sample(2, frames=8, batch_size=1, steps=2)
    np.testing.assert_array_equal(drawn[:, :6], prior.sample(2, batch_size=1, steps=2))
    np.testing.assert_array_equal(drawn[:1, :2], prior.sample(1, frames=2, steps=2))
    assert drawn.shape == (2, 8, SIDE, SIDE, 1) and np.ptp(drawn[:, 7]) > 0


@pytest.mark.ci  # trains a tokenizer
def test_what_a_prior_of_frames_cannot_do_is_said():
    prior, given = next_frame_prior(), clips(1, 2)
    with pytest.raises(UserError, match="expected a context of 1 .* up to 2, got 3"):
        prior.predict(given, 1, context=3)
    with pytest.raises(UserError, match="expected uint8 pictures"):
        prior.predict(given[:, :0], 1)
    with pytest.raises(UserError, match="next-frame, cannot inpaint: it draws whole pictures or frames"):
        prior.interpolate(given[:, :1], given[:, :1])
