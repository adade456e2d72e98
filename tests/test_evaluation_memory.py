"""The benchmark of the memory of an evaluation, on few pictures."""

import evaluation_memory
import pytest

pytestmark = pytest.mark.ci


def test_the_benchmark_of_memory_measures_each_count():
    result = evaluation_memory.run((8, 24), ("ssim",))
    assert [row["pictures"] for row in result["rows"]] == [8, 24]
    assert all(row["peak_mib"] > 50 and 0 < row["figures"]["ssim"] < 1 for row in result["rows"])
    assert result["growth_mib"] == result["rows"][1]["peak_mib"] - result["rows"][0]["peak_mib"]
