"""The prior of frames: what each frame's logits depend on, its loss, and what it refuses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jitted import apply, drawn, init

from vq_jax.nn import Condition, NextFrameCNN

SMALL = {"code_dim": 6, "frame_features": 4, "view_features": 7, "context": 2, "width": 8, "num_layers": 1}
GRID = (5, 2, 3)


def make(depth=2, **fields):
    model = NextFrameCNN(24, GRID, codes_per_position=depth, **(SMALL | fields))
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 24, (2, *model.code_shape), np.int32)
    views = rng.uniform(-1, 1, (2, *GRID, 7)).astype(np.float32)
    return model, drawn(model, codes, std=0.3), codes, jnp.asarray(views)


@pytest.fixture(scope="module", params=[1, 2])
def prior(request):
    """A prior, clips of it, and its jitted logits of codes, frames, codes of the frames, and mask."""
    model, variables, codes, frames = make(request.param)

    @jax.jit
    def logits(codes, frames, used, mask):
        return model.apply(variables, codes, Condition(codes=used, features=frames), mask=mask)

    return model, variables, codes, frames, logits


def changed(prior, *, codes=None, frame=None, used=None, features=slice(None)):
    """The frames whose logits change where codes (all masked but the first row), a frame or its codes do."""
    model, _, given, frames, logits = prior
    mask = np.ones(given.shape, bool)
    mask[:, :, 0] = False
    other, other_used = given.copy(), given.copy()
    for array, at in ((other, codes), (other_used, used)):
        if at is not None:
            array[:, at] = (array[:, at] + 5) % 24
    seen = frames if frame is None else frames.at[:, frame, ..., features].multiply(-0.5)
    apart = jnp.abs(logits(other, seen, other_used, mask) - logits(given, frames, given, mask))
    assert apart.shape == (*given.shape, 24)
    return [number for number in range(5) if float(jnp.max(apart[:, number])) > 1e-5]


def test_a_frame_depends_on_its_own_codes_and_on_the_last_two_frames_and_their_codes(prior):
    assert changed(prior, codes=2) == [2]
    assert changed(prior, frame=1) == [2, 3]
    assert changed(prior, frame=1, features=slice(4, None)) == [2]  # what would come next: of the last alone
    assert changed(prior, used=1) == [2, 3]
    assert changed(prior, frame=4) == []


def test_masked_codes_are_not_seen(prior):
    _, _, codes, frames, logits = prior
    mask = np.random.default_rng(1).random(codes.shape) < 0.5
    hidden = logits(np.where(mask, (codes + 5) % 24, codes), frames, codes, mask)
    np.testing.assert_array_equal(hidden, logits(codes, frames, codes, mask))
    assert float(jnp.max(jnp.abs(hidden - logits(codes, frames, codes, ~mask)))) > 1e-3


def test_frame_by_frame_gives_the_logits_of_the_whole_clip(prior):
    model, variables, codes, frames, logits = prior
    mask = np.random.default_rng(2).random(codes.shape) < 0.5
    whole, past = logits(codes, frames, codes, mask), model.no_past(2)
    of_frame = jax.jit(lambda *x, mask: model.apply(variables, *x, mask=mask, method="of_frame"))
    for number in range(5):
        found = of_frame(codes[:, number], past, mask=mask[:, number])
        np.testing.assert_allclose(found, whole[:, number], atol=1e-5)  # sums in another order
        past = past.followed_by(jnp.asarray(codes[:, number]), frames[:, number])
    np.testing.assert_array_equal(past.codes, codes[:, -2:])


def test_the_loss_is_the_cross_entropy_of_the_masked_codes_and_the_error_of_their_vectors(getkey):
    model, variables, codes, frames = make(regression_weight=3.0)
    rngs, given = {"mask": getkey()}, Condition(features=frames)

    def of(weight):
        other = model.copy(regression_weight=weight)
        return apply(other, variables, codes, given, train=False, rngs=rngs, method="loss")

    (loss, metrics), (plain, _) = of(3.0), of(0.0)
    np.testing.assert_allclose(plain, metrics["cross_entropy"], rtol=1e-6)
    assert float(loss) > float(plain) > 0


def test_mistakes_are_refused():
    model, variables, codes, frames = make()
    codes = jnp.asarray(codes)
    for given, message in [
        (None, r"sees the frames before each: expected condition.features of shape \(2, 5, 2, 3, 7\)"),
        (Condition(features=frames[:, :4]), r"got \(2, 4, 2, 3, 7\)"),
        (Condition(features=frames, codes=codes[:, :4]), r"condition.codes of shape \(2, 5, 2, 3, 2\)"),
        (Condition(jnp.zeros(2, jnp.int32), features=frames), "unconditional"),
    ]:
        with pytest.raises(ValueError, match=message):
            model.apply(variables, codes, given)
    for fields, message in [
        ({"grid": (2, 3)}, "the task next is about frames: expected codes of clips"),
        ({"context": 0}, "NextFrameCNN.context must be at least 1, got 0"),
        ({"context": 5}, "context must be below the 5 codes in time of its clips, got 5: see fewer frames"),
        ({"own_frames": 1.5}, r"NextFrameCNN.own_frames must lie in \[0, 1\], got 1.5"),
    ]:
        with pytest.raises(ValueError, match=message):
            NextFrameCNN(24, **({"grid": GRID} | SMALL | fields))


def test_at_first_the_likeliest_first_code_is_that_of_the_last_frame(getkey):
    model, _, codes, views = make()
    variables = init(model, getkey(), codes, Condition(features=views))
    vectors = np.random.default_rng(0).normal(0, 1, (2, 24, 6)).astype(np.float32)
    params = model.with_vectors(variables["params"], jnp.asarray(vectors))
    codes = jnp.asarray(codes)
    given = Condition(codes=codes, features=views)
    hidden = jnp.ones(codes.shape, bool)
    logits = np.asarray(jax.jit(lambda p: model.apply({"params": p}, codes, given, mask=hidden))(params))
    np.testing.assert_array_equal(logits[:, 1:, ..., 0, :].argmax(-1), codes[:, :-1, ..., 0])
