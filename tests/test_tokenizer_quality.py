"""What the benchmark of tokenizers computes: bits of codes, and other coders at the same bits."""

import io

import numpy as np
import pytest
import tokenizer_quality as quality
from PIL import Image

from vq_jax.errors import UserError
from vq_jax.types import CodeSpec

GRADIENT = np.stack([np.add.outer(np.arange(64), np.arange(48) * 2)] * 3, -1).astype(np.uint8)


def test_bits_of_codes_are_known_values():
    assert quality.entropy_bits(np.array([3, 3, 3, 3])) == 0.0
    assert quality.entropy_bits(np.array([0, 0, 1, 2])) == pytest.approx(4 * 1.5)
    specs = (CodeSpec((2,), 8), CodeSpec((2, 2), 16, codes_per_position=2))
    fine = np.array([[[0, 5], [1, 5]], [[0, 5], [1, 5]]])
    full, entropy = quality.code_bits(specs, (np.array([1, 2]), fine))
    assert full == 2 * 3 + 8 * 4 and entropy == pytest.approx(2 * 1.0 + 4 * 1.0)


@pytest.mark.parametrize("file_format", ["jpeg", "webp"])
def test_another_coder_has_the_best_quality_within_the_bits(file_format):
    def bits_at(level):
        file = io.BytesIO()
        Image.fromarray(GRADIENT).save(file, file_format, quality=level)
        return 8 * len(file.getvalue())

    limit = bits_at(50)
    picture, bits = quality.coded(GRADIENT, limit, file_format)
    assert picture.shape == GRADIENT.shape
    assert bits == max(size for size in map(bits_at, range(1, 101)) if size <= limit)
    _, least = quality.coded(GRADIENT, 8, file_format)
    assert least == bits_at(1) > 8


def test_a_directory_without_pictures_is_refused(tmp_path):
    with pytest.raises(UserError, match="expected a directory with pictures"):
        quality.read_pictures(tmp_path)
