"""Timing in turn: the order, the raw samples, the last outputs."""

import gc
import time
from collections.abc import Callable

import pytest

from tprune.benchmarks.latency import time_in_turn
from tprune.errors import InputError


def test_candidates_take_rotated_turns_and_every_sentence_comes_alone() -> None:
    calls: list[str] = []

    def candidate(name: str) -> Callable[[str], str]:
        return lambda sentence: calls.append(name + sentence) or name + sentence  # type: ignore[func-returns-value]

    found = time_in_turn({name: candidate(name) for name in "ABC"}, ["1", "2"], rounds=2, warmup=1)
    assert calls == [
        "A1",
        "A2",
        "B1",
        "B2",
        "C1",
        "C2",
        "B1",
        "B2",
        "C1",
        "C2",
        "A1",
        "A2",
        "C1",
        "C2",
        "A1",
        "A2",
        "B1",
        "B2",
    ]
    assert list(found) == ["A", "B", "C"]
    assert {samples.milliseconds.shape for samples in found.values()} == {(2, 2)}
    assert found["B"].outputs == ("B1", "B2")


def test_a_turn_is_short_so_that_candidates_share_the_drift_of_seconds() -> None:
    calls = ""

    def candidate(name: str) -> Callable[[str], str]:
        def work(sentence: str) -> str:
            nonlocal calls
            calls += name
            return name + sentence

        return work

    found = time_in_turn({name: candidate(name) for name in "AB"}, list("1234567"), rounds=1, warmup=1)
    assert calls == "AAAAABBBBB" + "BBAA" + "AAAAABBBBB" + "BBAA"
    assert found["A"].outputs == tuple("A" + sentence for sentence in "1234567")
    assert found["A"].milliseconds.shape == (1, 7)


class Clock:
    """Stands in for the real clock; a candidate that works 3 ms moves it by 3 ms."""

    def __init__(self) -> None:
        self.nanoseconds = 0

    def __call__(self) -> int:
        return self.nanoseconds

    def work(self, milliseconds: float) -> float:
        self.nanoseconds += int(milliseconds * 1e6)
        return milliseconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("tprune.benchmarks.latency.perf_counter_ns", clock)
    return clock


def test_times_are_milliseconds_of_the_right_sentence(clock: Clock) -> None:
    found = time_in_turn({"once": clock.work, "twice": lambda ms: clock.work(2 * ms)}, [3.5, 0.25], rounds=3)
    assert found["once"].milliseconds.tolist() == [[3.5, 0.25]] * 3
    assert found["twice"].milliseconds.tolist() == [[7.0, 0.5]] * 3


def test_warmup_is_not_in_the_samples(clock: Clock) -> None:
    colder = iter([50.0, 9.0, 2.0, 1.0])
    found = time_in_turn({"engine": lambda _: clock.work(next(colder))}, ["x"], rounds=2, warmup=2)
    assert found["engine"].milliseconds.tolist() == [[2.0], [1.0]]


def test_the_real_clock_runs() -> None:
    assert time_in_turn({"sleep": time.sleep}, [0.02], rounds=1)["sleep"].milliseconds.min() >= 20


def test_outputs_are_those_of_the_last_round() -> None:
    answers = iter(range(100))
    found = time_in_turn({"counter": lambda _: next(answers)}, ["x", "y"], rounds=3, warmup=1)
    assert found["counter"].outputs == (6, 7)


def test_rounds_go_on_until_every_candidate_has_its_seconds_and_all_have_as_many(clock: Clock) -> None:
    candidates = {"slow": lambda _: clock.work(400), "quick": lambda _: clock.work(30)}
    found = time_in_turn(candidates, ["x", "y"], rounds=3, seconds=0.5, warmup=2)
    # 8 rounds of twice 30 ms are 0.48 s: one more is needed, and the warm-up does not count
    assert {name: samples.milliseconds.shape for name, samples in found.items()} == {"slow": (9, 2), "quick": (9, 2)}


def test_a_candidate_with_its_seconds_still_gets_the_least_rounds(clock: Clock) -> None:
    assert time_in_turn({"slow": clock.work}, [2000], rounds=4, seconds=1)["slow"].milliseconds.shape == (4, 1)


@pytest.mark.parametrize(("rounds", "most", "expected"), [(2, 7, 7), (3, 1, 3)])
def test_at_the_most_so_many_rounds_but_never_fewer_than_the_least(
    clock: Clock, rounds: int, most: int, expected: int
) -> None:
    found = time_in_turn({"quick": clock.work}, [0.1], rounds=rounds, seconds=1, most_rounds=most)
    assert found["quick"].milliseconds.shape == (expected, 1)


def test_garbage_collection_waits_for_the_end_of_a_pass() -> None:
    states = time_in_turn({"engine": lambda _: gc.isenabled()}, ["x"], rounds=1)["engine"].outputs
    assert states == (False,)
    assert gc.isenabled()


def test_a_failing_candidate_leaves_the_garbage_collector_on() -> None:
    with pytest.raises(ZeroDivisionError):
        time_in_turn({"broken": lambda number: 1 // number}, [0], rounds=1)
    assert gc.isenabled()


def test_nothing_to_time_is_refused_with_all_that_lacks() -> None:
    with pytest.raises(InputError) as caught:
        time_in_turn({}, [], rounds=0)
    assert str(caught.value) == "nothing to time · no candidates; no sentences; no rounds · give at least one of each"
