"""Statistics against the definitions, brute force and sacreBLEU itself."""

import itertools
import math
import random
import statistics as by_hand

import numpy as np
import pytest
import sacrebleu
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sacrebleu.metrics import BLEU

from tprune.benchmarks import stats
from tprune.errors import InputError

WORDS = ["the", "a", "man", "dog", "runs", "sleeps", "in", "park", ",", "red", "house", "."]
line = st.lists(st.sampled_from(WORDS), min_size=0, max_size=12).map(" ".join)
filled_line = st.lists(st.sampled_from(WORDS), min_size=1, max_size=12).map(" ".join)


def corpus(sentences: int, errors: float) -> tuple[list[str], list[str]]:
    references = [" ".join(random.choices(WORDS, k=random.randint(5, 14))) for _ in range(sentences)]
    hypotheses = [
        " ".join(random.choice(WORDS) if random.random() < errors else word for word in reference.split())
        for reference in references
    ]
    return hypotheses, references


@given(st.lists(st.floats(0.01, 1e4), min_size=1, max_size=60))
def test_percentiles_interpolate_between_sorted_samples(samples: list[float]) -> None:
    ordered = sorted(samples)
    position = 0.9 * (len(ordered) - 1)
    below, above = ordered[math.floor(position)], ordered[math.ceil(position)]
    found = stats.percentiles(samples)
    assert found.p50 == pytest.approx(by_hand.median(samples))
    assert found.p90 == pytest.approx(below + (position - math.floor(position)) * (above - below))


def test_percentiles_need_samples() -> None:
    with pytest.raises(InputError, match="no latency samples"):
        stats.percentiles([])


def test_speedup_is_the_ratio_of_medians_with_an_interval_over_rounds() -> None:
    baseline = np.array([[10.0, 12.0, 14.0], [20.0, 24.0, 28.0], [11.0, 12.0, 13.0]] * 2)
    candidate = baseline / 2
    found = stats.speedup(baseline, candidate)
    assert found == stats.Speedup(2.0, 2.0, 2.0)  # drift shared by both sides cancels


def test_speedup_interval_against_enumeration() -> None:
    baseline = np.array([[10.0], [11.0], [14.0], [13.0], [12.0], [17.0]])
    candidate = np.array([[5.0], [6.0], [9.0], [9.5], [5.5], [8.0]])
    draws = np.array(list(itertools.product(range(6), repeat=6)))
    ratios = np.median(baseline[draws, 0], axis=1) / np.median(candidate[draws, 0], axis=1)
    found = stats.speedup(baseline, candidate, resamples=4000)
    assert found.lower == pytest.approx(np.quantile(ratios, 0.025), rel=0.01)
    assert found.upper == pytest.approx(np.quantile(ratios, 0.975), rel=0.01)
    assert found.ratio == pytest.approx(12.5 / 7)


def test_one_round_has_no_interval() -> None:
    assert stats.speedup([[10.0, 20.0, 30.0]], [[10.0, 10.0, 10.0]]) == stats.Speedup(2.0, None, None)


@pytest.mark.parametrize("rounds", [2, 3, 5, 6])
def test_the_interval_holds_the_ratio_in_19_of_20_cases(rounds: int) -> None:
    chance, held = np.random.default_rng(rounds), 0
    for _ in range(400):
        noise = chance.normal(0, 0.1, (rounds, 1))
        found = stats.speedup(np.full((rounds, 3), 20.0), 10 * np.exp(noise) * np.ones((1, 3)), resamples=200)
        assert found.lower is not None and found.upper is not None
        held += found.lower <= 2 <= found.upper
    assert held / 400 > 0.92


def test_unpaired_samples_are_refused() -> None:
    with pytest.raises(InputError) as caught:
        stats.speedup([[1.0, 2.0]], [[1.0]])
    assert "latency samples do not pair up · got shapes (1, 2) and (1, 1) · wanted the same rounds x sentences" in str(
        caught.value
    )


def test_doubts() -> None:
    steady = np.full((5, 20), 20.0)
    assert stats.doubts(steady) == []
    assert stats.doubts(steady[:2]) == ["40 samples, at least 50 wanted", "0.80 s timed, at least 1 s wanted"]
    steady[4] = 26
    assert stats.doubts(steady) == ["a round's median is 30% off the median of all, at most 10% wanted"]


def test_a_tenth_of_the_rounds_may_be_disturbed() -> None:
    rounds = np.full((20, 20), 20.0)
    rounds[[3, 8]] = 30
    assert stats.doubts(rounds) == []
    rounds[11] = 26  # the third-worst round counts
    assert stats.doubts(rounds) == ["a round's median is 30% off the median of all, at most 10% wanted"]
    assert stats.doubts(rounds[:9]) == ["a round's median is 50% off the median of all, at most 10% wanted"]


@pytest.mark.parametrize("errors", [0.0, 0.1, 0.5, 1.0])
def test_corpus_bleu_is_sacrebleus(errors: float) -> None:
    hypotheses, references = corpus(80, errors)
    found = stats.corpus_bleu(stats.bleu_statistics(hypotheses, references).sum(axis=0))
    assert found == pytest.approx(sacrebleu.corpus_bleu(hypotheses, [references]).score, abs=1e-9)


@settings(deadline=None)
@given(st.lists(st.tuples(line, filled_line), min_size=1, max_size=5))
def test_corpus_bleu_is_sacrebleus_on_short_and_empty_lines(pairs: list[tuple[str, str]]) -> None:
    hypotheses, references = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    found = stats.corpus_bleu(stats.bleu_statistics(hypotheses, references).sum(axis=0))
    assert found == pytest.approx(sacrebleu.corpus_bleu(hypotheses, [references]).score, abs=1e-9)


def test_another_tokenizer() -> None:
    hypotheses, references = ["東京は大きい"], ["東京は大きい都市"]
    found = stats.corpus_bleu(stats.bleu_statistics(hypotheses, references, tokenize="char").sum(axis=0))
    assert found == pytest.approx(sacrebleu.corpus_bleu(hypotheses, [references], tokenize="char").score, abs=1e-9)


def loss_by_brute_force(
    dense: list[str], pruned: list[str], references: list[str], resamples: int, seed: int
) -> NDArray[np.float64]:
    generator = np.random.default_rng(seed)
    losses = []
    for _ in range(resamples):
        drawn = generator.integers(len(references), size=len(references))
        before, after = (
            BLEU().corpus_score([lines[i] for i in drawn], [[references[i] for i in drawn]]).score
            for lines in (dense, pruned)
        )
        losses.append(100 * (before - after) / before)
    return np.array(losses)


def test_bleu_loss_and_its_bound_against_brute_force() -> None:
    dense, references = corpus(40, 0.15)
    pruned = [random.choice([sentence, sentence.replace("the", "a")]) for sentence in dense]
    found = stats.bleu_loss(
        stats.bleu_statistics(dense, references), stats.bleu_statistics(pruned, references), resamples=4000
    )
    before, after = (sacrebleu.corpus_bleu(lines, [references]).score for lines in (dense, pruned))
    assert found.percent == pytest.approx(100 * (before - after) / before, abs=1e-9)
    slow = loss_by_brute_force(dense, pruned, references, resamples=250, seed=2)
    assert found.percent < found.upper_percent
    assert found.upper_percent == pytest.approx(np.quantile(slow, 0.95), abs=0.5 * slow.std())


def test_equal_translations_lose_nothing() -> None:
    hypotheses, references = corpus(30, 0.2)
    numbers = stats.bleu_statistics(hypotheses, references)
    assert stats.bleu_loss(numbers, numbers) == stats.Loss(0.0, 0.0)


def test_same_seed_same_bound() -> None:
    hypotheses, references = corpus(30, 0.2)
    numbers = stats.bleu_statistics(hypotheses, references)
    worse = stats.bleu_statistics(hypotheses[:20] + [""] * 10, references)
    assert stats.bleu_loss(numbers, worse, seed=3) == stats.bleu_loss(numbers, worse, seed=3)


@pytest.mark.parametrize(("hypotheses", "references"), [([], []), (["a"], ["a", "b"])])
def test_lines_that_do_not_pair_up_are_refused(hypotheses: list[str], references: list[str]) -> None:
    with pytest.raises(InputError, match="hypotheses and references do not pair up"):
        stats.bleu_statistics(hypotheses, references)


def test_a_dense_model_without_bleu_is_refused() -> None:
    numbers = stats.bleu_statistics(["nothing right here at all"], ["the man runs in the park"])
    with pytest.raises(InputError, match="the dense model's BLEU is 0"):
        stats.bleu_loss(numbers, numbers)
