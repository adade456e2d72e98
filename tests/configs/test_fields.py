"""Every field of every registered configuration: types, choices and ranges, whichever way it comes in."""

import json
import time
import tracemalloc
import typing

import numpy as np
import pytest

from vq_jax.configs import (
    CodesConfig,
    ColourConfig,
    DataConfig,
    DiscriminatorConfig,
    ExperimentConfig,
    GPTArchitecture,
    Losses,
    NoiseConfig,
    OptimizerConfig,
    Phase,
    PriorConfig,
    PriorDataConfig,
    RegressorConfig,
    ResidualVQVAE,
    RestorationLosses,
    RestorerConfig,
    RestorerDataConfig,
    RestorerNetwork,
    TrainingConfig,
)
from vq_jax.configs.degradations import DEGRADATIONS
from vq_jax.configs.fields import Checked, field_hints, range_of
from vq_jax.configs.models import ARCHITECTURES
from vq_jax.configs.priors import PRIORS
from vq_jax.configs.quantizers import QUANTIZERS
from vq_jax.configs.serialize import from_dict, to_dict
from vq_jax.ranges import Range

PARTS = dict.fromkeys(
    (
        *(CodesConfig, ColourConfig, DataConfig, DiscriminatorConfig, Losses, OptimizerConfig, Phase),
        *(PriorDataConfig, RestorationLosses, RestorerDataConfig, RestorerNetwork, TrainingConfig),
        *(*ARCHITECTURES.values(), *QUANTIZERS.values(), *PRIORS.values()),
        *DEGRADATIONS.values(),
        *(prior.options for prior in PRIORS.values()),
    )
)
RUNS = {
    ExperimentConfig: lambda **fields: ExperimentConfig(**{"name": "t", "model": ResidualVQVAE(), **fields}),
    PriorConfig: lambda **fields: PriorConfig(**{"name": "p", "prior": GPTArchitecture(), **fields}),
    NoiseConfig: lambda **fields: NoiseConfig(**{"name": "n", **fields}),
    RestorerConfig: lambda **fields: RestorerConfig(**{"name": "r", **fields}),
    RegressorConfig: lambda **fields: RegressorConfig(**{"name": "g", **fields}),
}
MAKERS = {**{cls: cls for cls in PARTS}, **RUNS}
HUGE = 10**20


def unwrapped(hint):
    """What a value consists of, the range of its numbers, and whether there are several or may be none."""
    allowed, several, optional = range_of(hint), False, False
    while typing.get_origin(hint) not in (None, typing.Literal):
        origin, arguments = typing.get_origin(hint), typing.get_args(hint)
        several, optional = several or origin is tuple, optional or type(None) in arguments
        hint = float if set(arguments) == {int, float} else arguments[0]
        allowed = allowed or range_of(hint)
    return hint, allowed, several, optional


def outside(allowed):
    """Numbers beyond each end of a range."""
    yield from (allowed.minimum if allowed.above else allowed.minimum - 3, allowed.maximum * 2 + 1)
    yield from (allowed.minimum + 1,) * allowed.odd


def wrong_values(hint):
    kind, allowed, several, optional = unwrapped(hint)
    values = [object(), b"bytes", *([] if optional else [None])]
    if typing.get_origin(kind) is typing.Literal:
        values += ["", 3, typing.get_args(kind)[0] + "x"]
    elif kind is bool:
        values += [0, 1, "True", float("nan")]
    elif kind in (int, float):
        assert isinstance(allowed, Range), "a number without a range"
        ends = outside(allowed)
        values += [
            "1",
            True,
            float("nan"),
            float("inf"),
            -float("inf"),
            HUGE,
            -HUGE,
            10**5000,
            *map(kind, ends),
        ]
        values += [0.5, 32.0, np.float32(2.0)] if kind is int else [1e308]
    elif kind is str:
        values += [3, True, float("nan")]
    else:
        values += [3, {}, "default"]
    return [(value,) for value in values] + [3, "3"] if several else values


FIELDS = [(cls, name, hint) for cls in MAKERS for name, hint in field_hints(cls).items()]


@pytest.mark.parametrize("cls, name, hint", FIELDS, ids=[f"{cls.__name__}.{name}" for cls, name, _ in FIELDS])
def test_a_wrong_value_of_any_field_is_one_message_at_once(cls, name, hint):
    tracemalloc.start()
    began = time.monotonic()
    for value in wrong_values(hint):
        with pytest.raises(ValueError) as caught:
            MAKERS[cls](**{name: value})
        message = str(caught.value)
        assert f"{cls.path}.{name}".lstrip(".") in message and "got" in message
        assert len(message) < 400 and "\n" not in message, message
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert time.monotonic() - began < 2 and peak < 2**20


def test_no_configuration_is_left_out():
    def below(cls):
        return {cls}.union(*map(below, cls.__subclasses__()))

    abstract = {base for cls in MAKERS for base in cls.__mro__}
    ours = {cls for cls in below(Checked) if cls.__module__.startswith("vq_jax.configs")}
    assert ours <= set(MAKERS) | abstract


def test_a_tuple_has_at_most_64_numbers_and_any_number_of_names():
    DataConfig(class_names=("name",) * 1000)
    DiscriminatorConfig(hidden_features=(4,) * 64)
    with pytest.raises(ValueError, match="hidden_features must have at most 64 values, got 65"):
        DiscriminatorConfig(hidden_features=(4,) * 65)


def test_values_become_those_of_the_annotation():
    losses = Losses(reconstruction_weight=2, r1_every=np.int64(3), adaptive=np.True_)
    assert [type(value) for value in (losses.reconstruction_weight, losses.r1_every, losses.adaptive)] == [
        float,
        int,
        bool,
    ]
    assert DiscriminatorConfig(hidden_features=[4, 2]).hidden_features == (4, 2)


@pytest.mark.parametrize(
    "part, field, value, words",
    [
        ("data", "batch_size", 32.0, "data.batch_size must be a whole number, got 32.0"),
        (
            "data",
            "crop",
            "centre",
            "data.crop must be one of random, center, got 'centre'; did you mean center?",
        ),
        (
            "optimizer",
            "schedule",
            "linear",
            "optimizer.schedule must be one of constant, cosine, got 'linear'",
        ),
        ("training", "dtype", "float16", "got 'float16'; did you mean bfloat16 or float32?"),
        ("training", "steps", True, "training.steps must be a whole number, got True"),
        ("training", "seed", 2**63, "training.seed must be at most 4294967295"),
        ("model", "channels", "8", "model.channels must be a whole number, got '8'"),
        ("losses", "r1_weight", float("inf"), "losses.r1_weight must be a finite number, got inf"),
        ("discriminator", "hidden_features", 3, "discriminator.hidden_features must be several values"),
    ],
)
def test_a_configuration_that_was_edited_by_hand_is_refused(part, field, value, words):
    values = to_dict(RUNS[ExperimentConfig]())
    values[part][field] = value
    with pytest.raises(ValueError) as caught:
        from_dict(json.loads(json.dumps(values)))
    assert words in str(caught.value)
