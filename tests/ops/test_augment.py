"""Differentiable augmentation: the effect of each draw, recomputed in NumPy."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from vq_jax.ops import augment


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


SHAPES = [(6, 12, 3), (6, 16, 12, 3), (6, 3, 16, 12, 2)]


@functools.partial(jax.jit, static_argnames="policy")
def run(rng, pictures, policy=augment.AUGMENTATIONS):
    return augment.diff_augment(rng, pictures, policy)


@pytest.mark.parametrize("shape", SHAPES)
def test_color_is_brightness_saturation_and_contrast_per_picture(getkey, shape):
    x = np.random.default_rng(0).uniform(-1.0, 1.0, shape).astype(np.float32).astype(np.float64)
    out = np.asarray(run(getkey(), x.astype(np.float32), ("color",)), np.float64)
    factors = []
    for before, after in zip(x, out, strict=True):
        grey, grey_after = before.mean(-1), after.mean(-1)
        # per picture: chroma scaled by saturation * contrast, grey deviation by contrast, mean moved
        contrast = (grey_after - grey_after.mean()).std() / (grey - grey.mean()).std()
        both = np.std(after - grey_after[..., None]) / np.std(before - grey[..., None])
        brightness = grey_after.mean() - grey.mean()
        expected = grey[..., None] + brightness + (before - grey[..., None]) * both / contrast
        expected = expected.mean() + (expected - expected.mean()) * contrast
        np.testing.assert_allclose(after, expected, atol=1e-5)  # float32 against float64
        factors.append((brightness, both / contrast, contrast))
    factors = np.array(factors)
    low, high = np.array([-0.5, 0.0, 0.5]), np.array([0.5, 2.0, 1.5])
    assert (factors >= low - 1e-5).all() and (factors <= high + 1e-5).all()
    assert (factors.std(axis=0) > 0.05).all()  # each picture has its own draw


def shifted(picture, shift, axis):
    """NumPy shift that fills with zeros."""
    out, size = np.zeros_like(picture), picture.shape[axis]
    take = [slice(None)] * picture.ndim
    put = take.copy()
    take[axis] = slice(max(0, -shift), size - max(0, shift))
    put[axis] = slice(max(0, shift), size - max(0, -shift))
    out[tuple(put)] = picture[tuple(take)]
    return out


@pytest.mark.parametrize("shape", SHAPES)
def test_translation_is_one_shift_a_picture_of_at_most_an_eighth(getkey, shape):
    x = normal(*shape)
    axes = list(range(len(shape) - 2))[-2:]
    reach = {12: 2, 16: 2}
    seen = set()
    for _ in range(4):
        out = np.asarray(run(getkey(), x, ("translation",)))
        for before, after in zip(x, out, strict=True):
            candidates = {(): before}
            for axis in axes:
                size = reach[before.shape[axis]]
                candidates = {
                    (*shifts, s): shifted(picture, s, axis)
                    for shifts, picture in candidates.items()
                    for s in range(-size, size + 1)
                }
            matches = [shifts for shifts, picture in candidates.items() if np.array_equal(picture, after)]
            assert len(matches) == 1
            seen.add(matches[0])
    assert {shifts[0] for shifts in seen} == set(range(-2, 3))  # all shifts, both ends too
    assert len(seen) > 4


@pytest.mark.parametrize("shape", SHAPES)
def test_cutout_zeroes_one_box_a_picture_the_same_in_all_frames(getkey, shape):
    boxes = set()
    for _ in range(4):
        out = np.asarray(run(getkey(), np.ones(shape, np.float32), ("cutout",)))
        for picture in out:
            assert set(np.unique(picture)) == {0.0, 1.0}
            plane = picture[..., 0]
            assert (picture == plane[..., None]).all()
            if plane.ndim == 3:
                assert (plane == plane[:1]).all()
                plane = plane[0]
            holes = np.argwhere(plane == 0.0)
            low, high = holes.min(0), holes.max(0) + 1
            assert len(holes) == np.prod(high - low)  # a box
            half = np.array(plane.shape) // 2
            cut_off = (low == 0) | (high == plane.shape)
            assert ((high - low == half) | cut_off).all() and (high - low >= half // 2).all()
            boxes.add((*low, *high))
    assert len(boxes) > 6


def test_the_same_key_gives_two_batches_the_same_draws(getkey):
    key, x = getkey(), normal(8, 16, 16, 3)
    out = run(key, x)
    np.testing.assert_array_equal(out, run(key, x))
    # translation and cutout are linear, and their draws do not depend on the rest of the policy
    only = ("translation", "cutout")
    np.testing.assert_array_equal(
        run(key, np.float32(2.0) * x, only), np.float32(2.0) * np.asarray(run(key, x, only))
    )
    step_by_step = x
    for name in augment.AUGMENTATIONS:
        step_by_step = run(key, step_by_step, (name,))
    np.testing.assert_allclose(out, step_by_step, atol=1e-6)  # fused differently
    assert not np.array_equal(out, run(getkey(), x))


def test_gradients_reach_the_pixels_that_are_still_visible(getkey):
    key, x = getkey(), normal(8, 16, 16, 3)
    policy = ("translation", "cutout")
    weight, other = normal(*x.shape, seed=1), normal(*x.shape, seed=2)
    grad = jax.jit(jax.grad(lambda x: jnp.sum(weight * run(key, x, policy))))(x)
    # a linear map: its gradient is its transpose, checked on another batch
    np.testing.assert_allclose(
        np.sum(np.asarray(grad) * other),
        np.sum(weight * np.asarray(run(key, other, policy))),
        rtol=1e-4,
        atol=1e-4,
    )
    color = jax.jit(jax.grad(lambda x: jnp.sum(jnp.square(run(key, x, ("color",))))))(x)
    assert np.isfinite(color).all() and (np.abs(color) > 0).mean() > 0.99


def test_an_empty_policy_changes_nothing_and_the_dtype_stays(getkey):
    x = normal(2, 8, 8, 3).astype(jnp.bfloat16)
    np.testing.assert_array_equal(run(getkey(), x, ()), x)
    assert run(getkey(), x).dtype == jnp.bfloat16


def test_a_sharded_batch_is_augmented_as_the_whole_one_without_gathering_it(getkey):
    mesh = jax.make_mesh((4,), ("data",), axis_types=(AxisType.Auto,))
    split, whole = NamedSharding(mesh, PartitionSpec("data")), NamedSharding(mesh, PartitionSpec())
    key, x = getkey(), normal(8, 16, 16, 3)
    expected = run(key, x)
    sharded = jax.jit(augment.diff_augment, in_shardings=(whole, split), out_shardings=split)
    placed = jax.device_put(key, whole), jax.device_put(x, split)
    compiled = sharded.lower(*placed).compile()
    np.testing.assert_allclose(compiled(*placed), expected, atol=1e-6)
    assert "all-gather" not in compiled.as_text()


def test_mistakes_are_refused(getkey):
    with pytest.raises(ValueError, match="out of color, translation, cutout, got 'flip'"):
        augment.diff_augment(getkey(), jnp.zeros((1, 8, 8, 3)), ("flip",))
    with pytest.raises(ValueError, match=r"with a spatial axis, got shape \(1, 8\)"):
        augment.diff_augment(getkey(), jnp.zeros((1, 8)))
