"""From the sum of the parts to the whole: a rising line that can be read both ways."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from tprune.benchmarks import calibration
from tprune.benchmarks.calibration import Calibration

TIMES = st.floats(0.01, 1000)
LINE = Calibration(parts_ms=(2.0, 6.0), whole_ms=(1.8, 8.0))


@pytest.mark.parametrize(
    ("parts_ms", "whole_ms"),
    # in proportion to the first point, through both, halfway between, in proportion to the last
    [(1.0, 0.9), (2.0, 1.8), (4.0, 4.9), (6.0, 8.0), (12.0, 16.0)],
)
def test_between_the_points_a_line_and_beyond_them_a_ratio(parts_ms: float, whole_ms: float) -> None:
    assert LINE.whole(parts_ms) == pytest.approx(whole_ms)
    assert LINE.parts(whole_ms) == pytest.approx(parts_ms)


@given(st.lists(st.tuples(TIMES, TIMES), max_size=4), st.lists(TIMES, min_size=2, max_size=5))
def test_it_rises_and_goes_back(points: list[tuple[float, float]], times: list[float]) -> None:
    line = calibration.through(points)
    found = [line.whole(ms) for ms in sorted(times)]
    assert all(low <= high for low, high in itertools.pairwise(found))
    assert [line.parts(ms) for ms in found] == pytest.approx(sorted(times))


def test_without_points_the_whole_is_the_sum() -> None:
    assert Calibration().whole(3.25) == Calibration().parts(3.25) == 3.25


def test_of_points_that_contradict_each_other_the_larger_model_stays() -> None:
    line = calibration.through([(3.0, 9.5), (1.0, 1.5), (8.0, 9.0), (0.0, 0.5)])
    assert (line.parts_ms, line.whole_ms) == ((1.0, 8.0), (1.5, 9.0))


@pytest.mark.parametrize(
    ("parts_ms", "whole_ms", "why"),
    [
        ((1.0,), (), "1 sums of parts and 0 whole"),
        ((2.0, 1.0), (1.0, 2.0), "parts_ms do not"),
        ((1.0,), (0.0,), "rise"),
    ],
)
def test_what_cannot_be_read_both_ways_is_no_calibration(
    parts_ms: tuple[float, ...], whole_ms: tuple[float, ...], why: str
) -> None:
    with pytest.raises(ValidationError, match=why):
        Calibration(parts_ms=parts_ms, whole_ms=whole_ms)
    assert np.isfinite(LINE.whole(0.0))
