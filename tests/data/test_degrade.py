"""Degradations: a contract that every registered one keeps, values against other libraries, and batches."""

import dataclasses
import io

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage
from skimage import data as photographs

from vq_jax import configs, data
from vq_jax.configs.degradations import DEGRADATIONS, MixConfig, NoDegradationConfig
from vq_jax.configs.fields import field_hints, range_of
from vq_jax.configs.serialize import from_dict, to_dict
from vq_jax.data.degrade import degrade, disk_kernel, line_kernel
from vq_jax.data.in_memory import MemorySource

PHOTO = photographs.chelsea()[96:144, 96:168]
GREY_PHOTO = PHOTO[..., 1:2]


def run(config, picture=PHOTO, seed=0):
    return degrade(picture, config, np.random.default_rng(seed))


def with_extremes():
    """Every registered degradation with its defaults, and with each of its ranges at either end."""
    for name, cls in DEGRADATIONS.items():
        yield pytest.param(cls(), id=name)
        for field, hint in field_hints(cls).items():
            allowed, default = range_of(hint), getattr(cls(), field)
            if allowed is None or isinstance(default, bool):
                continue
            for end in (allowed.minimum + 1e-3 * allowed.above, allowed.maximum):
                end = type(default[0] if isinstance(default, tuple) else default)(end)
                value = (end, end) if isinstance(default, tuple) else end
                yield pytest.param(cls(**{field: value}), id=f"{name}-{field}-{end:g}")


@pytest.mark.parametrize("config", list(with_extremes()))
def test_a_degradation_keeps_the_contract(config):
    if not isinstance(config, MixConfig):
        assert MixConfig((config,), 1.0).scale == config.scale
    for picture in (PHOTO, GREY_PHOTO):
        before = picture.copy()
        result, again, other = (run(config, picture, seed) for seed in (0, 0, 1))
        height, width, channels = picture.shape
        assert result.shape == (height // config.scale, width // config.scale, channels)
        assert result.dtype == np.uint8 and other.shape == result.shape
        np.testing.assert_array_equal(result, again)
        np.testing.assert_array_equal(picture, before)


@pytest.mark.parametrize("name", [name for name in DEGRADATIONS if name != "none"])
def test_a_degradation_changes_a_photograph_and_says_so(name):
    config = DEGRADATIONS[name]()
    result = run(config)
    assert config.changes and (result.shape != PHOTO.shape or (result != PHOTO).any())
    assert not NoDegradationConfig().changes and run(NoDegradationConfig()) is PHOTO


@pytest.mark.parametrize("name", DEGRADATIONS)
def test_a_run_with_a_degradation_is_written_and_read(name):
    config = configs.ExperimentConfig("t", configs.VQGANf8())
    degradation = MixConfig((DEGRADATIONS[name](),), 0.5) if name != "downscale" else MixConfig()
    config = dataclasses.replace(config, data=dataclasses.replace(config.data, degradation=degradation))
    assert from_dict(to_dict(config)) == config


@pytest.mark.parametrize("name, filter", [("area", "BOX"), ("bicubic", "BICUBIC"), ("lanczos", "LANCZOS")])
def test_downscaling_is_that_of_pillow(name, filter):
    small = Image.fromarray(PHOTO).resize((18, 12), Image.Resampling[filter])
    np.testing.assert_array_equal(run(configs.DownscaleConfig(4, name)), np.asarray(small))
    plane = Image.fromarray(GREY_PHOTO[..., 0]).resize((36, 24), Image.Resampling[filter])
    np.testing.assert_array_equal(
        run(configs.DownscaleConfig(2, name), GREY_PHOTO)[..., 0], np.asarray(plane)
    )


def test_a_jpeg_is_that_of_pillow():
    file = io.BytesIO()
    Image.fromarray(PHOTO).save(file, "JPEG", quality=10, subsampling="4:2:0")
    np.testing.assert_array_equal(run(configs.JpegConfig((10, 10))), np.asarray(Image.open(file)))
    qualities = {run(configs.JpegConfig((20, 21)), seed=seed).tobytes() for seed in range(20)}
    assert len(qualities) == 2  # both ends of a range occur


def test_a_gaussian_blur_is_that_of_scipy():
    expected = ndimage.gaussian_filter(PHOTO.astype(float), (1.5, 1.5, 0), mode="reflect")
    np.testing.assert_allclose(run(configs.GaussianBlurConfig((1.5, 1.5))), expected, atol=0.51)


def test_motion_and_disk_blur_convolve_with_their_kernels():
    generator = np.random.default_rng(0)
    line = line_kernel(generator.uniform(9.0, 9.0), generator.uniform(0, np.pi))
    for config, kernel in (
        (configs.MotionBlurConfig((9.0, 9.0)), line),
        (configs.DiskBlurConfig((2.5, 2.5)), disk_kernel(2.5)),
    ):
        expected = ndimage.convolve(PHOTO.astype(float), kernel[..., None].astype(float), mode="reflect")
        np.testing.assert_allclose(run(config), expected, atol=0.51)


def test_a_line_is_even_along_itself_and_turns():
    np.testing.assert_allclose(line_kernel(5.0, 0.0)[3], [0, 0.2, 0.2, 0.2, 0.2, 0.2, 0], atol=1e-6)
    np.testing.assert_allclose(line_kernel(5.0, np.pi / 2), line_kernel(5.0, 0.0).T, atol=1e-6)
    for angle in (0.4, 1.1, 2.3):
        kernel = line_kernel(21.0, angle)
        rows, columns = np.mgrid[-11:12, -11:12]
        spread = np.cov(np.stack([columns.ravel(), rows.ravel()]), aweights=kernel.ravel(), bias=True)
        values, vectors = np.linalg.eigh(spread)
        assert kernel.sum() == pytest.approx(1, abs=1e-6)
        assert values == pytest.approx([0, 21**2 / 12], abs=0.6)  # of an even line: its length squared / 12
        assert abs(vectors[:, 1] @ [np.cos(angle), np.sin(angle)]) == pytest.approx(1, abs=2e-3)


def test_a_disk_is_even_inside_and_empty_outside():
    kernel = disk_kernel(6.3)
    distance = np.hypot(*np.mgrid[-7:8, -7:8])
    assert kernel.sum() == pytest.approx(1, abs=1e-6)
    np.testing.assert_allclose(kernel[distance < 5.5], 1 / (np.pi * 6.3**2), rtol=0.02)
    assert not kernel[distance > 7.1].any() and disk_kernel(0.0).tolist() == [[1.0]]


def test_noise_has_its_standard_deviation():
    grey = np.full((200, 200, 3), 100, np.uint8)
    noise = run(configs.GaussianNoiseConfig((12.0, 12.0)), grey) - 100.0
    # Rounding adds 1/12; five standard errors of 120,000 draws.
    assert noise.std() == pytest.approx(np.sqrt(144 + 1 / 12), rel=5 / np.sqrt(2 * noise.size))
    assert noise.mean() == pytest.approx(0, abs=5 * 12 / np.sqrt(noise.size))
    assert abs(np.corrcoef(noise[..., 0].ravel(), noise[..., 1].ravel())[0, 1]) < 0.03
    photons = run(configs.PoissonNoiseConfig((80.0, 80.0)), grey) / 255 * 80
    expected = 100 / 255 * 80  # mean and variance of a Poisson variable are equal
    assert photons.mean() == pytest.approx(expected, abs=5 * np.sqrt(expected / noise.size))
    assert photons.var() == pytest.approx(expected, rel=0.03)
    assert not run(configs.PoissonNoiseConfig(), np.zeros_like(grey)).any()


def test_a_range_is_drawn_over_its_width():
    grey = np.full((40, 40, 1), 128, np.uint8)
    stds = [run(configs.GaussianNoiseConfig((5.0, 25.0)), grey, seed).std() for seed in range(60)]
    assert 4.5 < min(stds) < 8 and 22 < max(stds) < 26.5


def test_grey_is_luma_in_every_channel():
    result = run(configs.GreyConfig())
    assert (result == result[..., :1]).all()
    np.testing.assert_allclose(result[..., 0], PHOTO @ [0.299, 0.587, 0.114], atol=0.51)


def test_a_mix_makes_its_steps_in_order_or_not():
    blur, jpeg = configs.GaussianBlurConfig((2.0, 2.0)), configs.JpegConfig((5, 5))
    orders = {"given": run(jpeg, run(blur)).tobytes(), "turned": run(blur, run(jpeg)).tobytes()}
    in_order = {run(MixConfig((blur, jpeg), 1.0, shuffle=False), seed=seed).tobytes() for seed in range(9)}
    shuffled = {run(MixConfig((blur, jpeg), 1.0), seed=seed).tobytes() for seed in range(9)}
    assert in_order == {orders["given"]} and shuffled == set(orders.values())
    some = [run(MixConfig((jpeg,), 0.3), seed=seed) is not PHOTO for seed in range(200)]
    assert 35 < sum(some) < 85  # of 60 in the mean


def test_a_mix_always_makes_pictures_smaller():
    mix = MixConfig((configs.JpegConfig(), configs.DownscaleConfig(2), configs.DownscaleConfig(3)), 1e-9)
    assert mix.scale == 6 and {run(mix, seed=seed).shape for seed in range(5)} == {(8, 12, 3)}


CONFIG = configs.DataConfig(batch_size=4, image_size=16, degradation=MixConfig())
PLAIN = dataclasses.replace(CONFIG, degradation=NoDegradationConfig())


def source():
    crops = [PHOTO[top : top + 40, left : left + 50] for top in (0, 4, 8) for left in (0, 7, 14)]
    return MemorySource(np.stack(crops), np.arange(9) % 3, 3)


def take(config, count, **options):
    with data.train_batches(source(), config, seed=3, **options) as batches:
        return [next(batches) for _ in range(count)]


def assert_same(batches, others):
    for batch, other in zip(batches, others, strict=True):
        assert batch.keys() == other.keys()
        for key in batch:
            np.testing.assert_array_equal(batch[key], other[key])


def test_batches_are_those_of_clean_pictures_with_degraded_ones_beside_them():
    colour = configs.ColourConfig(permute=True, hue=0.1)
    for config in (CONFIG, dataclasses.replace(CONFIG, colour=colour)):
        clean = take(dataclasses.replace(config, degradation=NoDegradationConfig()), 3)
        degraded = take(config, 3)
        assert_same([{**batch, "target": batch["image"]} for batch in clean],
                    [{**batch, "image": batch["target"]} for batch in degraded])  # fmt: skip
        assert all((batch["image"] != batch["target"]).any((1, 2, 3)).all() for batch in degraded)


def test_a_batch_depends_on_its_position_alone():
    whole = take(CONFIG, 4)
    assert_same(take(CONFIG, 2, start_batch=2), whole[2:])
    for index in range(2):
        part = take(CONFIG, 4, process_index=index, process_count=2)
        rows = [{key: value[2 * index : 2 * index + 2] for key, value in batch.items()} for batch in whole]
        assert_same(part, rows)


@pytest.mark.ci
def test_workers_make_the_same_batches():
    with_workers = dataclasses.replace(CONFIG, num_workers=2)
    assert_same(take(with_workers, 3), take(CONFIG, 3))
    assert_same(take(with_workers, 3, copy=False), take(CONFIG, 3))


def test_smaller_pictures_have_targets_of_the_training_size():
    config = dataclasses.replace(CONFIG, degradation=configs.DownscaleConfig(4))
    (batch,) = take(config, 1)
    assert batch["image"].shape == (4, 4, 4, 3) and batch["target"].shape == (4, 16, 16, 3)
    for small, whole in zip(batch["image"], batch["target"], strict=True):
        np.testing.assert_array_equal(run(config.degradation, whole), small)


def test_the_held_out_set_is_degraded_the_same_way_each_time():
    first, again = (list(data.test_batches(source(), CONFIG, batch_size=6, limit=18)) for _ in range(2))
    assert_same(first, again)
    clean = list(data.test_batches(source(), PLAIN, batch_size=6, limit=18))
    for batch, expected in zip(first, clean, strict=True):
        np.testing.assert_array_equal(batch["target"], expected["image"])
        assert (batch["image"] != batch["target"]).any((1, 2, 3)).all()


def test_cached_variants_know_their_degradation_and_plain_settings_have_none():
    jpegs = [dataclasses.replace(CONFIG, degradation=configs.JpegConfig((q, q))) for q in (10, 20)]
    made = [data.Variants(source(), config, 2) for config in (PLAIN, CONFIG, *jpegs)]
    assert len({variants.fingerprint for variants in made}) == 4
    np.testing.assert_array_equal(made[1][5]["target"], made[0][5]["image"])
    assert CONFIG.plain().degradation == configs.PriorDataConfig().resolve(CONFIG).degradation
    assert not CONFIG.plain().degradation.changes


class UnnamedConfig(configs.GreyConfig):
    """Not registered."""


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda: configs.JpegConfig((30, 20)), "must be two numbers, low and high"),
        (lambda: configs.JpegConfig((30,)), "must be two numbers, low and high"),
        (lambda: MixConfig(()), "must have at least one degradation"),
        (lambda: configs.DataConfig(image_size=30, degradation=configs.DownscaleConfig()), "a multiple of 4"),
        (lambda: configs.DataConfig(degradation=UnnamedConfig()), "add it to vq_jax.configs.degradations"),
        (lambda: configs.PriorDataConfig(degradation=configs.JpegConfig()), "NoDegradationConfig, got"),
        (lambda: run(configs.DownscaleConfig(5)), "multiples of 5, .* got 48 x 72: crop"),
        (
            lambda: configs.ExperimentConfig(
                "t", configs.VQGANf8(), configs.DataConfig(degradation=configs.DownscaleConfig(2))
            ),
            "2 times smaller, .* use a restorer",
        ),
        (
            lambda: configs.DataConfig(degradation=configs.GreyConfig()).check_channels(1),
            "these pictures have 1 channel: choose another",
        ),
    ],
)
def test_what_cannot_work_is_one_message(make, words):
    with pytest.raises(ValueError, match=words) as caught:
        make()
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 250
