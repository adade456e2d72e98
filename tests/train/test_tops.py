"""Every whole number of every configuration at the top of its range is judged, or refused, in seconds."""

import dataclasses
import time
import typing

import jax
import pytest

from vq_jax.configs import DiscriminatorConfig, NoiseConfig
from vq_jax.configs.fields import field_hints, range_of
from vq_jax.configs.models import ARCHITECTURES
from vq_jax.configs.presets import load_preset
from vq_jax.configs.priors import PRIORS
from vq_jax.configs.quantizers import QUANTIZERS
from vq_jax.pretrained.build import build_model, build_prior
from vq_jax.train import sharding
from vq_jax.train.tasks import check, noise, prior, tokenizer
from vq_jax.train.tasks.planned_codes import planned_codes

SECONDS = 30  # of the processor; without the tests' run-time checks of shapes it takes a third of that
PRESETS = {"gpt": "prior-fashion-gpt", "pixelcnn": "prior-fashion-pixelcnn", "noise": "prior-fashion-noise"}
NETWORKS = {cls.networks: cls for cls in reversed(ARCHITECTURES.values())}  # one of those that share networks


def base():
    config = load_preset("vqvae-fashion")
    return dataclasses.replace(config, data=dataclasses.replace(config.data, batch_size=4))


def with_model(model):
    size = getattr(model, "image_size", (64, 64))
    config = base()
    return dataclasses.replace(config, model=model, data=dataclasses.replace(config.data, image_size=size))


def with_quantizer(quantizer):
    return with_model(dataclasses.replace(base().model, quantizer=quantizer))


def with_discriminator(discriminator):
    config = with_model(base().model)
    losses = dataclasses.replace(config.losses, adversarial_weight=1.0)
    return dataclasses.replace(config, losses=losses, discriminator=discriminator)


def with_prior(model):
    return dataclasses.replace(load_preset(PRESETS.get(model.architecture, "prior-fashion")), prior=model)


def tops(part):
    """The part with each of its whole numbers, or all values of a tuple, as large as the range allows."""
    for name, hint in field_hints(type(part)).items():
        allowed, kinds = range_of(hint), {hint}
        while any(typing.get_args(kind) for kind in kinds):
            kinds = {inner for kind in kinds for inner in typing.get_args(kind) or (kind,)}
            allowed = allowed or next(filter(None, map(range_of, kinds)), None)
        if int not in kinds or allowed is None:
            continue
        largest = int(allowed.maximum)
        value = getattr(part, name)
        many = (range(1, 65), (largest,) * max(1, len(value))) if isinstance(value, tuple) else ()
        for top in map(tuple, many) if many else (largest,):
            yield pytest.param(type(part), name, top, id=f"{type(part).__name__}.{name}-{len(str(top))}")


def judge_tokenizer(config):
    mesh = sharding.make_mesh()
    inputs, model = tokenizer.abstract_inputs(config, mesh), build_model(config)
    check.check_memory(mesh, inputs)
    state = tokenizer.abstract_state(config, model, mesh)
    step = tokenizer.jit_step(config, mesh, config.losses, "joint", tokenizer.networks(config, model))
    check.check_step(mesh, step, state, *inputs)


def judge_prior(config):
    mesh, codes = sharding.make_mesh(), planned_codes(config, "vqvae-fashion", 10)
    model = build_prior(config, codes.specs, codes.num_classes, codes.config)
    if isinstance(config, NoiseConfig):
        state = noise.abstract_noise_state(config, codes.image_shape, model)
        step, frozen = noise.jit_step(config, mesh, model, codes.model), (codes.abstract_variables(mesh),)
    else:
        state = check.abstract_networks(lambda: prior.prior_state(jax.random.key(0), config, model))
        step, frozen = prior.jit_step(config, mesh, model), ()
    batch = codes.abstract_batch(config.data.batch_size, mesh)
    state = sharding.with_sharding(state, mesh)
    check.check_step(mesh, step, state, batch, sharding.abstract_key(mesh), *frozen)


def is_judged_in_time(make, judge, part, **fields):
    began = time.process_time()
    try:
        judge(make(dataclasses.replace(part, **fields)))
    except ValueError as error:  # UserError too
        assert len(str(error).splitlines()) <= 3 and len(str(error)) < 600
    assert time.process_time() - began < SECONDS


@pytest.mark.ci
@pytest.mark.parametrize("cls, name, top", [top for cls in NETWORKS.values() for top in tops(cls())])
def test_sizes_of_a_model(cls, name, top):
    is_judged_in_time(with_model, judge_tokenizer, cls(image_channels=1), **{name: top})


@pytest.mark.ci
@pytest.mark.parametrize("cls, name, top", [top for cls in QUANTIZERS.values() for top in tops(cls())])
def test_sizes_of_a_quantizer(cls, name, top):
    is_judged_in_time(with_quantizer, judge_tokenizer, cls(), **{name: top})


@pytest.mark.ci
@pytest.mark.parametrize("kind", ["patch", "stylegan", "mlp"])
@pytest.mark.parametrize("cls, name, top", list(tops(DiscriminatorConfig())))
def test_sizes_of_a_discriminator(cls, name, top, kind):
    is_judged_in_time(with_discriminator, judge_tokenizer, cls(kind=kind), **{name: top})


@pytest.mark.ci
@pytest.mark.parametrize("cls, name, top", [top for cls in PRIORS.values() for top in tops(cls())])
def test_sizes_of_a_prior(cls, name, top):
    is_judged_in_time(with_prior, judge_prior, cls(), **{name: top})
