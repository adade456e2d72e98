"""Held-out records: always the same ones, never all and never none."""

import numpy as np
import pytest

from vq_jax.data.splits import even_places, evenly_spaced, held_out


@pytest.mark.parametrize("fraction", [0.01, 0.1, 0.5, 0.9])
@pytest.mark.parametrize("count", [2, 3, 10, 1000])
def test_about_the_share_asked_for_is_held_out_and_both_parts_have_a_record(count, fraction):
    test = held_out(even_places(count), fraction, np.ones(count, bool))
    assert 1 <= test.sum() <= count - 1
    assert abs(test.sum() - fraction * count) <= 2


def test_a_single_record_is_never_held_out():
    assert held_out(even_places(1), 0.9, np.ones(1, bool)).tolist() == [False]


def test_appended_records_leave_the_others_in_their_split():
    before = held_out(even_places(100), 0.2, np.ones(100, bool))
    after = held_out(even_places(150), 0.2, np.ones(150, bool))
    assert before.tolist() == after[:100].tolist()


def test_held_out_records_are_spread_over_the_sequence():
    test = np.flatnonzero(held_out(even_places(1000), 0.1, np.ones(1000, bool)))
    assert np.diff(test).max() <= 25


def test_each_part_gets_a_readable_record_where_there_are_two():
    places = np.array([0.05, 0.3, 0.6, 0.9])
    readable = np.array([False, True, True, True])
    assert held_out(places, 0.1, readable).tolist() == [True, True, False, False]
    readable = np.array([True, True, False, False])
    assert held_out(places, 0.5, readable).tolist() == [True, False, False, False]


def test_evenly_spaced_numbers_lie_in_the_middle_of_equal_parts():
    assert evenly_spaced(10, 4) == [1, 3, 6, 8]
    assert evenly_spaced(9, 1) == [4]
    assert evenly_spaced(3, 8) == [0, 1, 2]
    assert evenly_spaced(0, 5) == []
