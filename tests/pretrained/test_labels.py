"""Classes by number and by name."""

import numpy as np
import pytest

from vq_jax.errors import UserError
from vq_jax.pretrained.labels import by_name_or_number, class_numbers

NAMES = ("cats", "dogs", "10")


@pytest.mark.parametrize(
    ("labels", "expected"),
    [("dogs", [1]), (2, [2]), (["dogs", "cats", "dogs"], [1, 0, 1]), ([0, "10"], [0, 2]), ((1,), [1]),
     (np.array([2, 0]), [2, 0]), (np.array(["cats", "10"]), [0, 2]), (np.int64(1), [1])],
)  # fmt: skip
def test_names_and_numbers_become_numbers(labels, expected):
    numbers = class_numbers(labels, 3, NAMES)
    assert numbers.tolist() == expected and numbers.dtype == np.int32


@pytest.mark.parametrize(
    ("labels", "message"),
    [("dog", r"a class of the prior \(cats, dogs, 10\).*got 'dog'; did you mean dogs"), (3, "0 to 2.*got 3"),
     (-1, "got -1"), (1.5, "integer labels"), ([[1]], "integer labels"), ([], "integer labels"),
     (["cats", None], "integer labels")],
)  # fmt: skip
def test_what_is_no_class_is_refused(labels, message):
    with pytest.raises(UserError, match=message):
        class_numbers(labels, 3, NAMES)


def test_classes_without_names_have_numbers_only():
    assert class_numbers([1], 2, None).tolist() == [1]
    with pytest.raises(UserError, match="which have no names"):
        class_numbers("cats", 2, None)
    with pytest.raises(UserError, match="no classes"):
        class_numbers(0, None, None)


def test_a_name_on_the_command_line_comes_before_a_number():
    assert by_name_or_number(["10", "1", "dogs", "-1"], NAMES) == ["10", 1, "dogs", -1]
    assert by_name_or_number(["10"], None) == [10]
