"""The size of the shortlist is the smallest that surely loses little on the validation text."""

from tprune import delivery_config
from tprune.benchmarks.shortlist_gain import SIZES, Trial, choose
from tprune.export.lexicon import Coverage


def trial(candidates: float, bound_percent: float) -> Trial:
    return Trial(delivery_config.Shortlist(), Coverage(0.9, 0.5, candidates), 30.0, -0.2, bound_percent)


def test_the_smallest_of_those_that_surely_lose_little_is_chosen() -> None:
    trials = [trial(50, 0.6), trial(90, 0.2), trial(80, 0.24), trial(300, -0.1)]
    assert choose(trials, 0.25) is trials[2]
    assert choose(trials, 0.0) is trials[3]
    assert choose(trials[:2], 0.1) is trials[1]


def test_every_size_is_tried_once_from_the_same_table() -> None:
    assert len(set(SIZES)) == len(SIZES) > 1
    assert len({size.iterations for size in SIZES}) == 1
