"""Functions on clips, against NumPy and the plain convolution."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vq_jax import ops


def normal(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape, np.float32))


def test_frames_are_pictures_in_a_row_and_the_first_is_its_own_past():
    x = normal(2, 3, 4, 5, 1)
    frames = ops.clips_to_frames(x)
    np.testing.assert_array_equal(frames, [frame for clip in x for frame in clip])
    np.testing.assert_array_equal(ops.frames_to_clips(frames, 3), x)
    longer = np.asarray(ops.repeat_first(x, 2))
    np.testing.assert_array_equal(longer[:, 2:], x)
    np.testing.assert_array_equal(longer[:, :2], np.stack([x[:, 0], x[:, 0]], axis=1))


@pytest.mark.parametrize(
    "shape, strides, sides",
    [((3, 3, 3), (1, 1, 1), (1, 1)), ((4, 4, 4), (2, 2, 2), (1, 2)), ((1, 3, 3), (1, 2, 2), (0, 0))],
)
def test_a_convolution_of_clips_equals_the_plain_one(shape, strides, sides):
    x, kernel = normal(2, 7, 6, 8, 3), normal(*shape, 3, 5, seed=1)
    plain = jax.jit(lambda x, kernel: ops.conv(x, kernel, strides, ((0, 0), sides, sides)))
    fast = jax.jit(lambda x, kernel: ops.clip_conv(x, kernel, strides, sides))
    np.testing.assert_allclose(fast(x, kernel), plain(x, kernel), atol=1e-4)
