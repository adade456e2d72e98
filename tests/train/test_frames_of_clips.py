"""Losses that see some frames of clips only, and discriminators that see them one by one."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen

from vq_jax import nn
from vq_jax.configs import (
    DataConfig,
    DiscriminatorConfig,
    ExperimentConfig,
    Losses,
    TrainingConfig,
    VectorQuantizerEMAConfig,
    VideoVQVAE,
)
from vq_jax.configs.presets import load_preset
from vq_jax.nn import VQOutput
from vq_jax.runs.rundir import read_metrics
from vq_jax.train import generator_loss, train
from vq_jax.train.steps.discriminator import FAKE, REAL, judge_pictures
from vq_jax.train.steps.some_frames import same_frames

CLIPS = jnp.asarray(np.broadcast_to(np.arange(9.0, dtype=np.float32)[:, None, None, None], (3, 9, 4, 4, 1)))


class Shown(linen.Module):
    """In place of a discriminator: the mean of each frame, and the labels."""

    num_classes: int | None = None

    @linen.compact
    def __call__(self, pictures, labels=None, *, train=False):
        means = pictures.reshape(pictures.shape[0], -1, 16).mean(-1, keepdims=True)
        return (
            means if labels is None else means + jnp.float32(100) * labels[:, None, None].astype(jnp.float32)
        )


def shown(step, draw=REAL, labels=None, **fields):
    network = nn.ClipDiscriminator(Shown(None if labels is None else 3), **fields)
    logits, _ = judge_pictures(network, Losses(), {}, {}, CLIPS, draw, jax.random.key(step), labels)
    return np.asarray(logits)[..., 0]


def test_frames_in_a_row_are_drawn_the_same_for_real_and_fake():
    seen = [shown(step, frames=4) for step in range(12)]
    for frames in seen:
        np.testing.assert_array_equal(frames, frames[0, 0] + np.broadcast_to(np.arange(4), (3, 4)))
    assert len({frames[0, 0] for frames in seen}) > 2
    np.testing.assert_array_equal(shown(5, REAL, frames=4), shown(5, FAKE, frames=4))


def test_frames_are_judged_as_pictures_with_the_labels_of_their_clips():
    labels = jnp.asarray([2, 0, 1], jnp.int32)
    whole = shown(0, by_frame=True, labels=labels).reshape(3, 9)
    np.testing.assert_array_equal(whole, np.arange(9)[None] + 100 * np.array([2, 0, 1])[:, None])
    some = [shown(step, by_frame=True, frames=3).reshape(3, 3) for step in range(12)]
    for frames in some:
        np.testing.assert_array_equal(frames, frames[:1].repeat(3, axis=0))
        assert (np.diff(frames[0]) > 0).all()
    assert any((np.diff(frames[0]) > 1).any() for frames in some)


def test_without_a_key_the_first_frames_are_shown_and_pictures_are_as_they_are():
    network = nn.ClipDiscriminator(Shown(), frames=4)
    np.testing.assert_array_equal(network.apply({}, CLIPS)[0, :, 0], np.arange(4))
    picture = CLIPS[:, 5]
    np.testing.assert_array_equal(network.apply({}, picture), Shown().apply({}, picture))


def test_the_perceptual_loss_compares_the_frames_drawn(monkeypatch):
    class Distance(linen.Module):
        backbone: str
        dtype: object = None

        def __call__(self, a, b):
            assert a.shape == b.shape == (3, 2, 4, 4, 1)
            return jnp.mean(a - b, axis=(1, 2, 3, 4))

    monkeypatch.setattr(nn, "LPIPS", Distance)
    zero = jnp.zeros((), jnp.float32)
    output = VQOutput(CLIPS, None, zero, {}, CLIPS, CLIPS)
    losses = Losses(perceptual_weight=1.0, perceptual_frames=2)
    key = jax.random.key(3)
    _, metrics = generator_loss(output, 2 * CLIPS, losses, {}, key)
    drawn, _ = same_frames((CLIPS, CLIPS), 2, key)
    assert drawn.shape[1] == 2 and drawn[0, 0, 0, 0, 0] < drawn[0, 1, 0, 0, 0]
    assert float(metrics["perceptual_loss"]) == pytest.approx(-float(jnp.mean(drawn)))
    with pytest.raises(ValueError, match="perceptual_frames = 2 of 9 frames are drawn from a key"):
        generator_loss(output, CLIPS, losses, {})


def config(frames=5, losses=None, **discriminator):
    network = VideoVQVAE(
        channels=8,
        residual_channels=4,
        num_res_blocks=1,
        image_channels=1,
        quantizer=VectorQuantizerEMAConfig(codebook_size=16, code_dim=4),
    )
    return ExperimentConfig(
        name="clips",
        model=network,
        data=DataConfig(source="moving-fashion", frames=frames, image_size=32, batch_size=4, test_limit=4),
        losses=losses or Losses(adversarial_weight=0.1),
        discriminator=DiscriminatorConfig(channels=4, num_layers=1, **discriminator),
        training=TrainingConfig(steps=2, log_every=1, save_every=2, eval_every=2, image_every=2),
    )


def test_frames_are_asked_for_of_clips_and_at_most_all():
    with pytest.raises(
        ValueError, match="discriminator.by_frame is about frames of clips.* give --data.frames"
    ):
        config(frames=None, by_frame=True)
    with pytest.raises(ValueError, match="discriminator.frames = 6 must be at most .* data.frames = 5"):
        dataclasses.replace(config(), discriminator=DiscriminatorConfig(frames=6))
    with pytest.raises(ValueError, match="losses.perceptual_frames = 9 must be at most"):
        config(losses=Losses(perceptual_frames=9))
    noise = load_preset("prior-fashion-noise")
    with pytest.raises(ValueError, match="discriminator.frames is about frames of clips"):
        dataclasses.replace(noise, discriminator=DiscriminatorConfig(frames=2))


@pytest.mark.ci
@pytest.mark.parametrize("kind, by_frame", [("patch", True), ("patch", False), ("mlp", False)])
def test_a_gan_on_clips_learns_from_some_of_their_frames(kind, by_frame, tmp_path):
    whole = config(frames=9)
    judge = dataclasses.replace(whole.discriminator, kind=kind, by_frame=by_frame, frames=6)
    train(dataclasses.replace(whole, discriminator=judge), tmp_path / "run")
    rows = read_metrics(tmp_path / "run")
    losses = [row["discriminator/loss"] for row in rows if "discriminator/loss" in row]
    assert losses and np.isfinite(losses).all()
