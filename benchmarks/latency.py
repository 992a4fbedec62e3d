"""Timing of candidates in turn: A B C, B C A, …, one sentence at a time.

A machine's speed drifts with heat and neighbors, within seconds too. Candidates that take short turns share the
drift, and the ratio of their times cancels it. Nothing in here knows an engine: a candidate is a callable.
"""

import gc
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count, cycle
from time import perf_counter_ns
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from tprune.errors import InputError

TURN = 5
"""Sentences of one turn: few, so that all candidates have had theirs within a second or so, and more than one, since
the first finds the others' weights in the caches."""

Candidate = TypeVar("Candidate", bound=Hashable)
Sentence = TypeVar("Sentence")
Output = TypeVar("Output")


@dataclass(frozen=True, eq=False)
class Samples(Generic[Output]):
    """Raw times of one candidate and what it answered last."""

    milliseconds: NDArray[np.float64]
    """(rounds x sentences), ms."""
    outputs: tuple[Output, ...]
    """One per sentence, from the last round: an engine that spoils its memory is wrong there,
    and not in the first one."""


def time_in_turn(
    candidates: Mapping[Candidate, Callable[[Sentence], Output]],
    sentences: Sequence[Sentence],
    *,
    rounds: int,
    seconds: float = 0.0,
    most_rounds: int = 100,
    warmup: int = 1,
) -> dict[Candidate, Samples[Output]]:
    """Translate all sentences with every candidate in every round, in turns, the order rotated by one each time.

    Rounds go on until every candidate has been timed for `seconds`. All get the same number of rounds, slow ones
    included: a speedup pairs the rounds of both sides, and a candidate that left early would leave the others a
    quieter machine than it had.

    Args:
        candidates: What to time, by whatever tells them apart.
        sentences: What each candidate is called with, one at a time.
        rounds: Least number of timed passes of every candidate over the sentences.
        seconds: Least time of each candidate in all its timed passes, in seconds.
        most_rounds: Passes after which nobody waits for `seconds` any longer.
        warmup: Passes before, not timed.

    Returns:
        Samples by candidate, in their order.

    Raises:
        InputError: No candidate, no sentence, or no round.
    """
    problems = [
        f"no {name}"
        for name, some in (
            ("candidates", len(candidates) > 0),
            ("sentences", len(sentences) > 0),
            ("rounds", rounds > 0),
        )
        if not some
    ]
    if problems:
        raise InputError("nothing to time", problems=problems, fix="give at least one of each")
    names = list(candidates)
    times: dict[Candidate, list[list[float]]] = {name: [] for name in names}
    outputs: dict[Candidate, list[Output]] = {}
    turns = [sentences[start : start + TURN] for start in range(0, len(sentences), TURN)]
    shifts = cycle(range(len(names)))
    gc.collect()
    gc.freeze()  # what is there already, as an exporter's graphs, need not be looked through before every turn
    try:
        for done in count(1 - warmup):
            took: dict[Candidate, list[float]] = {name: [] for name in names}
            outputs = {name: [] for name in names}
            for some, shift in zip(turns, shifts, strict=False):
                for name in names[shift:] + names[:shift]:
                    milliseconds, found = _turn(candidates[name], some)
                    took[name] += milliseconds
                    outputs[name] += found
            if done > 0:
                for name in names:
                    times[name].append(took[name])
            if done >= rounds and (
                done >= most_rounds or all(sum(map(sum, passes)) >= 1000 * seconds for passes in times.values())
            ):
                break
    finally:
        gc.unfreeze()
    return {name: Samples(np.array(times[name]), tuple(outputs[name])) for name in names}


def by_index(translate: Callable[[list[int]], Output], sentences: Sequence[list[int]]) -> Callable[[int], Output]:
    """A candidate that is called with the number of a sentence: models may have the same text in ids of their own."""
    return lambda index: translate(sentences[index])


def _turn(candidate: Callable[[Sentence], Output], sentences: Sequence[Sentence]) -> tuple[list[float], list[Output]]:
    """Time every sentence once, with the garbage collector between turns and not within."""
    milliseconds, outputs = [], []
    collecting = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        for sentence in sentences:
            start = perf_counter_ns()
            output = candidate(sentence)
            milliseconds.append((perf_counter_ns() - start) / 1e6)
            outputs.append(output)
    finally:
        if collecting:
            gc.enable()
    return milliseconds, outputs
