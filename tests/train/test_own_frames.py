"""Clips on which a prior of frames trains: against a loop over frames that calls the tokenizer by hand."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from clip_runs import clips, next_frame_config, next_frame_prior
from closed_loops import closed_loop, encoded, moving, view_fields
from jitted import drawn

from vq_jax import train
from vq_jax.nn import Condition, NextFrameCNN
from vq_jax.train.sharding import batch_sharding, make_key, make_mesh, replicate
from vq_jax.train.tasks.seen_frames import SeenFrames

FRAMES = 6


@functools.cache
def setup():
    model, variables = closed_loop(depth=2)
    prior = NextFrameCNN(
        *(11, (FRAMES, 2, 3), 4),
        **dict(context=2, width=8, num_layers=1, codes_per_position=2),
        **view_fields(model),
    )
    codes = np.zeros((1, *prior.code_shape), np.int32)
    networks = {"prior_model": prior, "tokenizer_model": model, "tokenizer_variables": variables}
    return networks, drawn(prior, codes, std=0.5)["params"]


def made(share, clips, key=0):
    networks, params = setup()
    run = jax.jit(functools.partial(train.own_frames, **networks, share=share))
    return run(params, clips, jax.random.key(key))


def test_without_a_share_codes_and_frames_are_the_tokenizers():
    networks, _ = setup()
    clips = moving(3, FRAMES)
    codes, given = made(0.0, clips)
    expected, views = encoded(networks["tokenizer_model"], networks["tokenizer_variables"], clips)
    np.testing.assert_array_equal(codes, expected)
    np.testing.assert_array_equal(given.codes, expected)
    np.testing.assert_allclose(given.features, views, atol=1e-6)  # compiled apart


def test_own_frames_are_the_likeliest_ones_and_the_codes_lead_from_them_to_the_true_ones():
    networks, params = setup()
    model, variables, prior = (
        networks[name] for name in ("tokenizer_model", "tokenizer_variables", "prior_model")
    )
    clips = moving(4, FRAMES)
    codes, given = made(1.0, clips)
    of_model = jax.jit(lambda *x, method: model.apply(variables, *x, method=method), static_argnames="method")
    likeliest = jax.jit(
        lambda *x: jnp.argmax(
            prior.apply({"params": params}, *x, mask=jnp.ones(x[0].shape, bool), method="of_frame"), axis=-1
        )
    )
    previous, past, own = jnp.zeros_like(clips[:, 0]), prior.no_past(4), np.zeros((4, FRAMES), bool)
    for number in range(FRAMES):
        right = of_model(clips[:, number], previous, method="encode_next")
        np.testing.assert_array_equal(codes[:, number], right)
        used, guess = given.codes[:, number], likeliest(right, past)
        own[:, number] = np.array([np.array_equal(*both) for both in zip(used, guess, strict=True)])
        truth = np.array([np.array_equal(*both) for both in zip(used, right, strict=True)])
        assert (own[:, number] | truth).all()
        frame = of_model(used, previous, method="decode_next")
        view = of_model(used, frame, method="view_next")
        np.testing.assert_allclose(given.features[:, number], view, atol=1e-5)
        past, previous = past.followed_by(used, view), frame
    assert not own[:, : prior.context].any()
    assert own[:, -1].all()  # each clip goes over to its own frames, and stays
    assert (np.diff(own.astype(int), axis=1) >= 0).all()


def test_the_share_is_that_of_the_clips_and_the_key_draws_them():
    clips = moving(16, FRAMES)
    true = np.asarray(made(0.0, clips)[0])

    def count(key):
        return int(np.any(np.asarray(made(0.5, clips, key)[1].codes) != true, axis=(1, 2, 3, 4)).sum())

    counts = [count(key) for key in range(4)]
    assert 20 <= sum(counts) <= 44 and len(set(counts)) > 1  # of 64, 4 standard deviations


@pytest.mark.ci
def test_a_run_begins_with_true_frames_alone():
    prior, mesh = next_frame_prior(), make_mesh(4)
    seen = SeenFrames(next_frame_config(steps=20), prior.model, prior.tokenizer, mesh)
    batch = jax.device_put({"image": clips(8, 6)}, batch_sharding(mesh))
    key, params = make_key(0, mesh), replicate(prior.variables["params"], mesh)
    made = [seen.inputs(params, batch, key, step) for step in (2, 3)]
    own = [np.any(np.asarray(inputs["past"] != inputs["codes"])) for inputs in made]
    assert own == [False, True]


@pytest.mark.ci
def test_four_devices_make_the_clips_of_one():
    networks, params = setup()
    clips, mesh = moving(8, FRAMES), make_mesh(4)
    run = functools.partial(train.own_frames, **networks, share=0.5)
    spread = jax.device_put(clips, batch_sharding(mesh))
    codes, given = jax.jit(run)(params, spread, jax.random.key(0))
    alone, given_alone = made(0.5, clips)
    np.testing.assert_array_equal(codes, alone)
    np.testing.assert_array_equal(given.codes, given_alone.codes)
    assert isinstance(given, Condition) and given.labels is None
