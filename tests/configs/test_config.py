import dataclasses
import json

import pytest

from vq_jax.configs import (
    MLPVQVAE,
    Architecture,
    DataConfig,
    ExperimentConfig,
    Losses,
    NextFrameArchitecture,
    OptimizerConfig,
    Phase,
    PriorConfig,
    ResidualVQVAE,
    TrainingConfig,
    VectorQuantizerEMAConfig,
)
from vq_jax.configs.models import ARCHITECTURES, make_architecture
from vq_jax.configs.serialize import differences, from_dict, to_dict


def experiment(**fields):
    return ExperimentConfig(**{"name": "test", "model": ResidualVQVAE(), **fields})


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: DataConfig(batch_size=0), "data.batch_size must be at least 1, got 0"),
        (lambda: DataConfig(image_size=2), "data.image_size must be at least 4, got 2"),
        (lambda: DataConfig(crops_per_picture=0), "data.crops_per_picture must be at least 1"),
        (lambda: DataConfig(test_fraction=1.0), "data.test_fraction must lie in .0, 1."),
        (lambda: DataConfig(test_limit=0), "data.test_limit must be at least 1"),
        (lambda: DataConfig(num_workers=-1), "data.num_workers must be at least 0"),
        (lambda: Losses(variance_weight=-1.0), "losses.variance_weight must be at least 0"),
        (lambda: Losses(reconstruction_weight=float("nan")), "losses.reconstruction_weight must be a finite"),
        (lambda: OptimizerConfig(learning_rate=0.0), "optimizer.learning_rate must be positive"),
        (
            lambda: PriorConfig(name="next", prior=NextFrameArchitecture()),
            "the prior next-frame learns from frames, and a cache holds codes alone: give --codes.mode fly",
        ),
        (
            lambda: OptimizerConfig(learning_rate=float("nan")),
            "optimizer.learning_rate must be a finite number",
        ),
        (lambda: OptimizerConfig(b2=1.0), r"optimizer.b2 must lie in \[0, 1\), got 1.0"),
        (lambda: OptimizerConfig(final_ratio=2.0), "optimizer.final_ratio must lie in"),
        (lambda: OptimizerConfig(weight_decay=0.1), "has no effect with adam; use adamw, lion"),
        (lambda: OptimizerConfig(clip_norm=0.0), "optimizer.clip_norm must be positive"),
        (lambda: Phase(steps=0), "phases.steps must be at least 1"),
        (lambda: Phase("autoencoder", kmeans_batches=1), "which does not train the codebook"),
        (lambda: TrainingConfig(save_every=0), "training.save_every must be at least 1"),
        (lambda: TrainingConfig(seed=-1), "training.seed must be at least 0"),
        (lambda: TrainingConfig(ema_decay=1.0), r"training.ema_decay must lie in \[0, 1\)"),
        (lambda: TrainingConfig(mesh_data=0), "training.mesh_data must be -1 or at least 1"),
        (
            lambda: ResidualVQVAE(quantizer=VectorQuantizerEMAConfig(codebook_size=0)),
            "model.quantizer.codebook_size must be at least 1, got 0",
        ),
        (
            lambda: ResidualVQVAE(quantizer=VectorQuantizerEMAConfig(decay=1.5)),
            r"model.quantizer.decay must lie in \[0, 1\), got 1.5",
        ),
        (
            lambda: ResidualVQVAE(quantizer=VectorQuantizerEMAConfig(epsilon=0.0)),
            "model.quantizer.epsilon must be positive",
        ),
        (
            lambda: ResidualVQVAE(quantizer=VectorQuantizerEMAConfig(revive_threshold=-1.0)),
            "model.quantizer.revive_threshold must be at least 0",
        ),
        (lambda: ResidualVQVAE(channels=1), "model.channels must be at least 2, got 1"),
        (lambda: ResidualVQVAE(num_downsamples=-1), "model.num_downsamples must be at least 0"),
        (lambda: MLPVQVAE(hidden_features=(8, 0)), r"model.hidden_features must be at least 1, got 0"),
    ],
)
def test_a_value_out_of_range_is_refused_with_its_name_and_value(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    "fields, message",
    [
        (
            {"data": DataConfig(image_size=30)},
            "data.image_size = 30 must be a multiple of 4 .* nearest is 32",
        ),
        (
            {"model": MLPVQVAE(), "data": DataConfig(source="fashion", image_size=32)},
            r"model.image_size = \(28, 28\) must be the pictures' size, data.image_size = 32: "
            "give --model.image-size 32 32",
        ),
        ({"model": ResidualVQVAE(image_channels=2)}, "model.image_channels must be 1 .grey. or 3"),
        (
            {"optimizer": OptimizerConfig(warmup_steps=10), "training": TrainingConfig(steps=10)},
            "optimizer.warmup_steps = 10 must be less than training.steps = 10",
        ),
        ({"phases": ()}, "at least one phase"),
        ({"phases": (Phase(), Phase())}, "only the last phase may have steps = None"),
        (
            {"phases": (Phase("codebook", steps=5), Phase()), "training": TrainingConfig(steps=5)},
            "phases before the last take 5 steps and training.steps is 5: raise --steps",
        ),
        (
            {"phases": (Phase(steps=5),), "training": TrainingConfig(steps=6)},
            "the phases take 5 steps and training.steps is 6",
        ),
        ({"model": Architecture()}, "Architecture has the name ''"),
    ],
)
def test_parts_that_do_not_fit_together_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        experiment(**fields)


def test_a_configuration_survives_json():
    config = experiment(
        model=MLPVQVAE(hidden_features=(32, 16, 8)),
        data=DataConfig(source="fashion", image_size=28),
        phases=(Phase("autoencoder", steps=3), Phase()),
        optimizer=OptimizerConfig(clip_norm=1.0),
    )
    assert from_dict(json.loads(json.dumps(to_dict(config)))) == config


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda values: values["data"].update(bach_size=1), "unknown field data.bach_size.*batch_size"),
        (lambda values: values["model"].update(architecture="vqvae-residua"), "mean vqvae-residual"),
        (lambda values: values["model"].pop("architecture"), "model.architecture is missing"),
        (lambda values: values["training"].update(steps=0), "training.steps must be at least 1"),
        (lambda values: values.update(data=[]), "expected named fields for data"),
    ],
)
def test_a_wrong_dictionary_is_refused_with_the_name_that_is_wrong(change, message):
    values = to_dict(experiment())
    change(values)
    with pytest.raises(ValueError, match=message):
        from_dict(values)


def test_differences_are_named_with_both_values():
    old = experiment(phases=(Phase("autoencoder", steps=3), Phase()))
    new = dataclasses.replace(
        old,
        model=ResidualVQVAE(quantizer=VectorQuantizerEMAConfig(codebook_size=7)),
        phases=(Phase("autoencoder", steps=4), Phase()),
    )
    assert differences(old, old) == {}
    assert differences(old, new) == {"model.quantizer.codebook_size": (512, 7), "phases.0.steps": (3, 4)}


def test_losses_with_a_weight_have_a_start():
    losses = Losses(adversarial_weight=1.0, disc_start=10, adversarial_start=20, perceptual_start=99)
    starts = {"disc_start": 10, "adversarial_start": 20}
    assert experiment(losses=losses).losses.used_starts() == starts
    weighted = dataclasses.replace(losses, perceptual_weight=1.0)
    assert experiment(losses=weighted).losses.used_starts() == {**starts, "perceptual_start": 99}


def test_phases_start_where_the_ones_before_end():
    phases = (Phase("autoencoder", steps=3), Phase("codebook", steps=2), Phase())
    assert experiment(phases=phases).phase_starts() == (0, 3, 5)


def test_the_loss_determines_the_head_of_the_decoder():
    heads = [Losses(reconstruction=kind).head for kind in ("l1", "l2", "log_laplace", "bernoulli")]
    assert heads == ["picture", "picture", "log_laplace", "bernoulli"]


def test_the_perceptual_loss_is_used_from_its_start():
    losses = Losses(perceptual_weight=2.0, perceptual_start=5)
    assert [losses.at(step).perceptual_weight for step in (0, 4, 5, 6)] == [0.0, 0.0, 2.0, 2.0]
    assert losses.at(5) == losses and Losses().at(0) == Losses()


def test_starts_of_losses_are_steps_or_shares_of_the_steps_of_the_run():
    losses = Losses(perceptual_weight=1.0, perceptual_start=0.73, disc_start=0.29, adversarial_start=70)
    config = ExperimentConfig("t", ResidualVQVAE(), losses=losses, training=TrainingConfig(steps=100))
    starts = {"perceptual_start": 73, "disc_start": 29, "adversarial_start": 70}
    assert config.in_steps().losses == dataclasses.replace(losses, **starts)
    assert Losses().in_steps(100) == Losses() and config.in_steps().in_steps() == config.in_steps()
    assert from_dict(json.loads(json.dumps(to_dict(config)))) == config
    with pytest.raises(ValueError, match=r"0.29 is a share of a run's steps.*losses.in_steps\(steps\)"):
        dataclasses.replace(losses, perceptual_start=3).at(0)
    for wrong in (0.0, 1.0, 32.0, 1.5):
        with pytest.raises(ValueError, match=f"losses.disc_start must be a whole number of .*got {wrong}"):
            Losses(disc_start=wrong)


def test_an_architecture_is_made_by_name():
    assert make_architecture("vqvae-residual", codebook_size=7) == ResidualVQVAE(
        quantizer=VectorQuantizerEMAConfig(codebook_size=7)
    )
    with pytest.raises(ValueError, match="unknown architecture 'vqvae-resid'; did you mean vqvae-residual"):
        make_architecture("vqvae-resid")
    with pytest.raises(
        ValueError,
        match="vqvae-mlp with the quantizer ema has no field 'codebook_siz'; did you mean codebook_size",
    ):
        make_architecture("vqvae-mlp", codebook_siz=7)


@pytest.mark.parametrize("name", sorted(ARCHITECTURES))
@pytest.mark.parametrize("quantizer", ["ema", "gradient"])
def test_an_architecture_builds_a_model_of_its_fields(name, quantizer):
    model = make_architecture(name, codebook_size=7, code_dim=3, quantizer=quantizer).build()
    given = model.quantizer.quantizer if name == "vqvae-motion" else model.quantizer  # beside its motion
    assert (given.codebook_size, given.code_dim) == (7, 3)
    assert type(given).__name__ == {"ema": "VectorQuantizerEMA", "gradient": "VectorQuantizer"}[quantizer]


def test_an_architecture_without_networks_says_so():
    with pytest.raises(TypeError, match="use a named architecture"):
        Architecture().networks(3, None)
