"""What every prior of the registry does, and its sampler; a new one is tested here without an edit."""

import dataclasses
import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from closed_loops import CODE_DIM, closed_loop, view_fields
from jitted import drawn

from vq_jax import nn, train
from vq_jax.configs import CodesConfig
from vq_jax.configs.priors import PRIORS
from vq_jax.configs.registry import RUN_KINDS
from vq_jax.configs.serialize import from_dict, to_dict
from vq_jax.generate import SAMPLERS, adapt_options, fill_codes, sample_prior
from vq_jax.generate.common import row_keys
from vq_jax.types import CodeSpec

# Small values of the fields that priors have; a prior takes those that are its own.
SMALL = {
    **dict(width=16, num_layers=1, num_heads=2, head_features=16, depth_layers=1, num_blocks=1, noise_dim=4),
    **dict(dropout=0.0, token_dropout=0.0, context=2),
}
SPEC, NUM_CLASSES = CodeSpec((2, 3), 11), 4
SEVERAL = CodeSpec((2, 3), 11, codes_per_position=2)
FRAMES = 3  # of the clips of a prior that sees frames
every_prior = pytest.mark.parametrize("name", sorted(PRIORS))
for_several = pytest.mark.parametrize("name", sorted(name for name in PRIORS if PRIORS[name].several_codes))


def configured(name):
    fields = {field.name for field in dataclasses.fields(PRIORS[name])}
    return PRIORS[name](**{field: value for field, value in SMALL.items() if field in fields})


def spec_of(name, spec=SPEC):
    """The spec as that of clips for a prior that sees frames."""
    return dataclasses.replace(spec, shape=(FRAMES, *spec.shape)) if PRIORS[name].sees_frames else spec


def built(name, spec=SPEC):
    config = configured(name)
    fields = {"code_dim": CODE_DIM} if config.needs_code_dim else {}
    fields |= view_fields(closed_loop()[0]) if config.sees_frames else {}
    return config.build(spec_of(name, spec), NUM_CLASSES, **fields)


@functools.cache
def made(name, spec=SPEC):
    """The prior, its variables, and what its sampler needs beside them."""
    model, extra = built(name, spec), {}
    start = np.zeros((1, *spec_of(name, spec).array_shape), np.int32)
    if PRIORS[name].sees_frames:
        tokenizer, variables = closed_loop(spec.codebook_size, spec.codes_per_position, spec.shape)
        extra = {"tokenizer_model": tokenizer, "tokenizer_variables": variables}
    elif SAMPLERS[type(model)].needs_tokenizer:
        tokenizer = nn.VQModel(
            nn.ResidualEncoder(channels=8, latent_channels=4, num_res_blocks=0),
            nn.VectorQuantizerEMA(spec.codebook_size, 4),
            nn.ResidualDecoder(channels=8, out_channels=1, num_res_blocks=0),
        )
        pictures = np.zeros((1, *(4 * length for length in spec.shape), 1), np.float32)
        variables = drawn(tokenizer, pictures, std=0.3)
        extra = {"tokenizer_model": tokenizer, "tokenizer_variables": variables}
        start = np.zeros((1, model.noise_dim), np.float32)
    return model, drawn(model, start, labelled([0]), std=0.3), extra


def labelled(labels):
    return nn.Condition(jnp.asarray(np.array(labels, np.int32)))


@every_prior
def test_the_prior_models_the_codes_that_it_was_built_for(name):
    model, _, _ = made(name)
    spec = spec_of(name)
    assert model.code_specs == spec and model.code_shape == spec.array_shape
    assert model.num_classes == NUM_CLASSES
    with pytest.raises(ValueError, match="one grid of codes, but .* several, 2: use one with another"):
        configured(name).build((SPEC, SPEC), NUM_CLASSES)
    if PRIORS[name].several_codes:
        assert built(name, SEVERAL).code_specs == spec_of(name, SEVERAL)
    else:
        with pytest.raises(ValueError, match="models one code per position"):
            configured(name).build(SEVERAL, NUM_CLASSES)


@every_prior
def test_a_training_step_lowers_the_loss_of_its_batch(name, getkey):
    model, _, _ = made(name)
    if not hasattr(model, "loss"):
        pytest.skip("a discriminator trains it")
    optimizer = optax.adam(1e-2)
    state = jax.jit(functools.partial(train.init_prior, prior_model=model, optimizer=optimizer))(getkey())
    step = jax.jit(functools.partial(train.prior_step, prior_model=model, optimizer=optimizer))
    codes = np.random.default_rng(0).integers(0, SPEC.codebook_size, (8, *model.code_shape), np.int32)
    codes = jnp.asarray(codes)
    condition, rng, rows = labelled(np.arange(8) % NUM_CLASSES), getkey(), []
    if PRIORS[name].sees_frames:
        condition = condition.replace(features=jnp.zeros((8, *model.grid, model.view_features), jnp.float32))
    for _ in range(5):
        state, metrics = step(state, codes, condition, rng)
        rows.append(jax.device_get(metrics))
    # Untrained, no code is much likelier than another.
    assert rows[0]["cross_entropy"] == pytest.approx(np.log(SPEC.codebook_size), rel=0.2)
    assert rows[-1]["loss"] < rows[0]["loss"]
    assert int(state.step) == 5


@every_prior
def test_the_sampler_draws_codes_of_the_spec_and_the_same_for_the_same_key(name):
    model, variables, extra = made(name)
    options = PRIORS[name].options()
    assert SAMPLERS[type(model)].options is type(options)
    condition = labelled(np.arange(8) % NUM_CLASSES)
    draw = functools.partial(sample_prior, model, variables, condition=condition, **extra)
    codes = np.asarray(draw(rng=jax.random.key(3)))
    assert codes.shape == (8, *model.code_shape) and codes.dtype == jnp.int32
    assert 0 <= codes.min() and codes.max() < SPEC.codebook_size
    np.testing.assert_array_equal(codes, draw(rng=jax.random.key(3)))
    assert (codes != draw(rng=jax.random.key(4))).any()
    with pytest.raises(ValueError, match="expected labels from 0 to 3, got 7"):
        draw(rng=jax.random.key(3), condition=labelled([7] * 8))


@every_prior
def test_what_is_drawn_with_a_key_of_its_own_depends_on_no_other_picture(name):
    model, variables, extra = made(name)
    options = adapt_options(PRIORS[name].options(), model)
    labels, keys = np.arange(4) % NUM_CLASSES, row_keys(3, 0, 4)

    def draw(rows):
        return np.asarray(
            sample_prior(model, variables, keys[rows], labelled(labels[rows]), options=options, **extra)
        )

    whole = draw(slice(0, 4))
    np.testing.assert_array_equal(whole[1:3], draw(slice(1, 3)))
    assert (keys[2:] == row_keys(3, 2, 2)).all()
    assert (whole[0] != whole[2]).any()


@every_prior
def test_a_hole_is_filled_and_the_known_codes_stay(name, getkey):
    model, variables, _ = made(name)
    condition = labelled([0, 1])
    codes = np.random.default_rng(0).integers(0, SPEC.codebook_size, (2, *model.code_shape), np.int32)
    known = np.zeros(codes.shape, bool)
    known[:, 0] = True
    given = (jnp.asarray(codes), jnp.asarray(known))
    fill = functools.partial(fill_codes, model, variables, getkey(), condition, *given)
    if SAMPLERS[type(model)].fill is None:
        with pytest.raises(ValueError, match="cannot keep given ones"):
            fill()
        return
    filled = np.asarray(fill())
    assert filled.shape == codes.shape and 0 <= filled.min() and filled.max() < SPEC.codebook_size
    np.testing.assert_array_equal(filled[:, 0], codes[:, 0])


@for_several
def test_several_codes_per_position_are_drawn_and_kept_one_by_one(name, getkey):
    model, variables, extra = made(name, SEVERAL)
    condition = labelled(np.arange(8) % NUM_CLASSES)
    codes = np.asarray(sample_prior(model, variables, getkey(), condition, **extra))
    assert codes.shape == (8, *model.code_shape) and 0 <= codes.min() and codes.max() < 11
    if SAMPLERS[type(model)].fill is None:
        return
    known = np.zeros(codes.shape, bool)
    known[:, 0], known[:, 1, :, 0] = True, True  # of the second row, the first code of each position
    given = (jnp.asarray((codes + 3) % 11), jnp.asarray(known))
    filled = np.asarray(fill_codes(model, variables, getkey(), condition, *given))
    np.testing.assert_array_equal(filled[known], ((codes + 3) % 11)[known])
    assert (filled[~known] != ((codes + 3) % 11)[~known]).any()


@every_prior
def test_a_run_of_the_prior_survives_json(name):
    kind = "prior" if hasattr(getattr(nn, PRIORS[name].module), "loss") else "noise"
    config = RUN_KINDS[kind](name="mine", prior=configured(name), codes=CodesConfig(mode="fly"))
    assert type(config.sampling) is PRIORS[name].options
    assert from_dict(json.loads(json.dumps(to_dict(config)))) == config
