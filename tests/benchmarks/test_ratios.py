"""Which times of two engines may be compared."""

import numpy as np
import pytest

from tprune.benchmarks import ratios

TEN = [[1, 2, 3]] * 10


@pytest.mark.parametrize(
    ("found", "precision", "why"),
    [
        (TEN, "fp32", []),
        ([*TEN[1:], [1, 2, 9]], "fp32", []),  # a tie
        ([*TEN[2:], [1, 2, 9], [1, 7, 3]], "fp32", ["80% of its translations are the baseline's, at least 90% wanted"]),
        ([[4, 5, 6]] * 10, "int8", []),
        ([[4, 5, 6, 7]] * 10, "int8", ["translations of 4.0 tokens, the baseline's have 3.0"]),
        ([[]] * 10, "int8", ["translations of 0.0 tokens, the baseline's have 3.0"]),
    ],
)
def test_other_work_is_no_comparison(found: list[list[int]], precision: str, why: list[str]) -> None:
    assert ratios.unequal_work(found, TEN, precision) == why
    times = {"ours": np.full((10, 10), 20.0), "peer": np.full((10, 10), 30.0)}
    fields = ratios.timed_fields(times, "ours", "peer", "peer", doubts=why)
    assert fields["valid"] == {"ok": not why, "reasons": why}
    assert fields["speedup"] == 1.5
