"""Statistics of latency and BLEU: percentiles, speedups, losses, and how sure they are.

Latency samples are arrays (rounds x sentences) in ms; every candidate of a run has been timed on
the same sentences in the same rounds, so that samples pair up. BLEU statistics are arrays
(sentences x 10): hypothesis length, reference length, 4 matched and 4 total n-gram counts.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tprune.errors import InputError

ORDER = 4  # BLEU's longest n-gram
CONFIDENCE = 0.95
LEAST_SAMPLES, LEAST_SECONDS = 50, 1.0  # of a candidate whose latency is quoted
LEAST_ROUNDS = 6  # of fewer, a bootstrap's interval is too narrow: that of three holds the ratio in 75 % of cases
STUDENT = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776}  # 97.5 % quantile of t by the number of rounds
DISTURBED = 0.1  # share of rounds that may be: medians do not feel them, and a longer run meets more of them

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Percentiles:
    """Median and 90th percentile, in the unit of the samples."""

    p50: float
    p90: float


@dataclass(frozen=True)
class Speedup:
    """Ratio of the baseline's median to the candidate's; above 1 the candidate is faster.

    `lower` and `upper` are the ends of the 95 % interval, None when one round tells nothing.
    """

    ratio: float
    lower: float | None
    upper: float | None


@dataclass(frozen=True)
class Loss:
    """Relative BLEU loss in percent of the dense model's BLEU; negative is a gain.

    `upper_percent` is the one-sided upper 95 % bound: the loss is below it with 95 % confidence.
    """

    percent: float
    upper_percent: float


def percentiles(samples: ArrayLike) -> Percentiles:
    """Median and 90th percentile of raw samples, linearly interpolated.

    Raises:
        InputError: No samples.
    """
    values = np.asarray(samples, dtype=np.float64)
    if values.size == 0:
        raise InputError("no latency samples", fix="time at least one sentence")
    p50, p90 = np.percentile(values, (50, 90))
    return Percentiles(float(p50), float(p90))


def speedup(baseline_ms: ArrayLike, candidate_ms: ArrayLike, *, resamples: int = 1000, seed: int = 1) -> Speedup:
    """Ratio of medians with an interval over rounds.

    A bootstrap's resample draws whole rounds, the same ones on both sides: what disturbs a round disturbs
    both candidates in it, and sentences within a round are not independent. Fewer than LEAST_ROUNDS rounds get
    Student's interval of their log ratios.

    Args:
        baseline_ms: (rounds x sentences), ms.
        candidate_ms: (rounds x sentences), ms, from the same run.
        resamples: Bootstrap resamples.
        seed: Of the resampling.

    Raises:
        InputError: The two differ in shape, or are empty.
    """
    baseline, candidate = _paired(baseline_ms, candidate_ms, "latency samples", "rounds x sentences")
    ratio = float(np.median(baseline) / np.median(candidate))
    rounds = len(baseline)
    if rounds < 2:
        return Speedup(ratio, None, None)
    if rounds < LEAST_ROUNDS:
        logs = np.log(np.median(baseline, axis=1) / np.median(candidate, axis=1))
        away = float(np.exp(STUDENT[rounds] * logs.std(ddof=1) / np.sqrt(rounds)))
        return Speedup(ratio, ratio / away, ratio * away)
    generator = np.random.default_rng(seed)
    draws = generator.integers(rounds, size=(resamples, rounds))
    ratios = [np.median(baseline[draw]) / np.median(candidate[draw]) for draw in draws]
    lower, upper = np.quantile(ratios, ((1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2))
    return Speedup(ratio, float(lower), float(upper))


def doubts(
    samples_ms: ArrayLike,
    *,
    least_samples: int = LEAST_SAMPLES,
    least_seconds: float = LEAST_SECONDS,
    most_drift: float = 0.1,
) -> list[str]:
    """Reasons why latencies should not be quoted; empty when there are none.

    Args:
        samples_ms: (rounds x sentences), ms.
        least_samples: Fewer samples are too few.
        least_seconds: A shorter total is too short, in seconds.
        most_drift: Largest accepted distance of a round's median from the median of all,
            as a share of it; the worst tenth of the rounds is left out, none of fewer than ten.
    """
    samples = np.atleast_2d(np.asarray(samples_ms, dtype=np.float64))
    found = []
    if samples.size < least_samples:
        found.append(f"{samples.size} samples, at least {least_samples} wanted")
    seconds = samples.sum() / 1000
    if seconds < least_seconds:
        found.append(f"{seconds:.2f} s timed, at least {least_seconds:g} s wanted")
    if samples.size:
        drifts = np.sort(np.abs(np.median(samples, axis=1) / np.median(samples) - 1))
        drift = float(drifts[-1 - int(DISTURBED * len(drifts))])
        if drift > most_drift:
            found.append(f"a round's median is {drift:.0%} off the median of all, at most {most_drift:.0%} wanted")
    return found


def bleu_statistics(hypotheses: Sequence[str], references: Sequence[str], *, tokenize: str = "13a") -> Floats:
    """Sufficient statistics of every sentence for sacreBLEU's BLEU.

    Args:
        hypotheses: Translations.
        references: One reference for each.
        tokenize: sacreBLEU's tokenizer, such as `13a`, `zh`, `ja-mecab`.

    Returns:
        (sentences x 10): hypothesis length, reference length, matches, totals.

    Raises:
        InputError: None, or not one reference for each hypothesis.
    """
    from sacrebleu.metrics import BLEU

    if not hypotheses or len(hypotheses) != len(references):
        raise InputError(
            "hypotheses and references do not pair up",
            got=f"{len(hypotheses)} and {len(references)} lines",
            wanted="as many of each, at least one",
            fix="translate the whole split again",
        )
    # effective_order only changes the score of a sentence, which is not read here
    metric = BLEU(tokenize=tokenize, effective_order=True)
    scores = [
        metric.sentence_score(hypothesis, [reference])
        for hypothesis, reference in zip(hypotheses, references, strict=True)
    ]
    return np.array(
        [[score.sys_len, score.ref_len, *score.counts, *score.totals] for score in scores], dtype=np.float64
    )


def corpus_bleu(statistics: Floats) -> Floats:
    """BLEU from summed statistics, with sacreBLEU's default exponential smoothing.

    BLEU = BP * exp(mean_n log p_n), BP = min(1, exp(1 - r / c)); the k-th order without a match
    counts as 1 / 2^k matches.

    Args:
        statistics: (... x 10), sums over the sentences of a corpus or of resamples.

    Returns:
        (...), between 0 and 100.
    """
    length, reference = statistics[..., 0], statistics[..., 1]
    matches, totals = statistics[..., 2 : 2 + ORDER], statistics[..., 2 + ORDER :]
    missing = (matches == 0) & (totals > 0)
    smoothed = np.where(missing, 0.5 ** np.cumsum(missing, axis=-1), matches)
    usable = (matches[..., 0] > 0) & (totals > 0).all(axis=-1)
    precisions = np.where(usable[..., None], smoothed, 1) / np.where(usable[..., None], totals, 1)
    log_penalty = np.minimum(0, 1 - reference / np.where(usable, length, 1))
    bleu = 100 * np.exp(log_penalty + np.log(precisions).mean(axis=-1))
    result: Floats = np.where(usable, bleu, 0.0)
    return result


def bleu_loss(dense: Floats, pruned: Floats, *, resamples: int = 1000, seed: int = 1) -> Loss:
    """Relative BLEU loss with its upper bound by paired bootstrap over sentences.

    Args:
        dense: (sentences x 10), from `bleu_statistics`.
        pruned: (sentences x 10), of the same sentences.
        resamples: Bootstrap resamples.
        seed: Of the resampling.

    Raises:
        InputError: The two differ in shape, or the dense model's BLEU is 0.
    """
    dense, pruned = _paired(dense, pruned, "BLEU statistics", "sentences x 10")
    sentences = len(dense)
    if corpus_bleu(dense.sum(axis=0)) == 0:
        raise InputError(
            "the dense model's BLEU is 0: a relative loss is undefined", fix="check the dense model's translations"
        )
    generator = np.random.default_rng(seed)
    # how often each sentence is drawn: a resample's sums are then one matrix product
    draws = generator.multinomial(sentences, np.full(sentences, 1 / sentences), size=resamples).astype(np.float64)
    losses = _relative_loss(draws @ dense, draws @ pruned)
    return Loss(float(_relative_loss(dense.sum(axis=0), pruned.sum(axis=0))), float(np.quantile(losses, CONFIDENCE)))


def _relative_loss(dense: Floats, pruned: Floats) -> Floats:
    before, after = corpus_bleu(dense), corpus_bleu(pruned)
    # a resample without any match of the dense model says nothing about a loss
    return 100 * (1 - np.divide(after, before, out=np.ones_like(after), where=before > 0))


def _paired(first: ArrayLike, second: ArrayLike, what: str, axes: str) -> tuple[Floats, Floats]:
    left: NDArray[Any] = np.asarray(first, dtype=np.float64)
    right: NDArray[Any] = np.asarray(second, dtype=np.float64)
    if left.shape != right.shape or left.ndim != 2 or left.size == 0:
        raise InputError(
            f"{what} do not pair up",
            got=f"shapes {left.shape} and {right.shape}",
            wanted=f"the same {axes} twice",
            fix="measure both in one run, on the same sentences",
        )
    return left, right
