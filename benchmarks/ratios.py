"""A row's times, its speedup over a baseline of the same run, and whether they may be quoted."""

from collections.abc import Hashable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from tprune.benchmarks import stats

MOST_DRIFT = 0.5  # of a round's median from the median of all rounds
LEAST_SAME = 0.9  # share of an engine's fp32 translations
MOST_LONGER = 0.1
MOST_SPREAD = 0.2  # of a speedup: width of its 95 % interval

Candidate = TypeVar("Candidate", bound=Hashable)


def unequal_work(translations: Sequence[Sequence[int]], expected: Sequence[Sequence[int]], precision: str) -> list[str]:
    """Reasons why the times of two engines with the same weights cannot be compared; empty when there are none.

    Args:
        translations: Token ids of each sentence.
        expected: Those of the engine that it is compared with.
        precision: In fp32 the translations have to be the same, but for a few ties; otherwise as long.
    """
    same = float(np.mean([list(a) == list(b) for a, b in zip(translations, expected, strict=True)]))
    found = []
    if precision == "fp32" and same < LEAST_SAME:
        found.append(f"{same:.0%} of its translations are the baseline's, at least {LEAST_SAME:.0%} wanted")
    return found + unequal_length(translations, expected)


def unequal_length(translations: Sequence[Sequence[int]], expected: Sequence[Sequence[int]]) -> list[str]:
    """The reason why the times of two models cannot be compared, where one writes much shorter translations."""
    length, wanted = (sum(map(len, all_ids)) / len(all_ids) for all_ids in (translations, expected))
    if abs(length / max(wanted, 1e-9) - 1) <= MOST_LONGER:
        return []
    return [f"translations of {length:.1f} tokens, the baseline's have {wanted:.1f}"]


def timed_fields(
    times: Mapping[Candidate, NDArray[np.float64]],
    candidate: Candidate,
    baseline: Candidate,
    name: str,
    *,
    doubts: Sequence[str] = (),
) -> dict[str, Any]:
    """Latency, speedup and verdict of one candidate, as fields of a result row; arguments as for `ratio_fields`."""
    milliseconds = times[candidate]
    found = stats.percentiles(milliseconds)
    return {
        "latency_ms": {"p50": found.p50, "p90": found.p90, "samples": milliseconds.flatten().round(4).tolist()},
        **ratio_fields(times, candidate, baseline, name, doubts=doubts),
    }


def ratio_fields(
    times: Mapping[Candidate, NDArray[np.float64]],
    candidate: Candidate,
    baseline: Candidate,
    name: str,
    *,
    least_samples: int = stats.LEAST_SAMPLES,
    doubts: Sequence[str] = (),
) -> dict[str, Any]:
    """Speedup and verdict of one candidate, as fields of a result row.

    A shared machine's speed drifts; candidates in turn share the drift, and the ratio's interval shows what is left
    of it. So the ratio is judged by its interval, and only a time by itself by its drift.

    Args:
        times: (rounds x sentences) ms by candidate, all timed in turn.
        candidate: Whose row it is.
        baseline: What the speedup is against; its own row has none.
        name: What the row calls the baseline.
        least_samples: Fewer of them are too few.
        doubts: Other reasons not to quote it.
    """

    def doubtful(milliseconds: NDArray[np.float64]) -> list[str]:
        return stats.doubts(milliseconds, least_samples=least_samples, most_drift=MOST_DRIFT)

    reasons = [*doubts, *doubtful(times[candidate])]
    fields: dict[str, Any] = {}
    if candidate != baseline:
        ratio = stats.speedup(times[baseline], times[candidate])
        fields = {
            "baseline": name,
            "speedup": ratio.ratio,
            "speedup_lower": ratio.lower,
            "speedup_upper": ratio.upper,
        }
        reasons += [f"{name}: {doubt}" for doubt in doubtful(times[baseline])]
        if ratio.lower is None or ratio.upper is None or ratio.upper - ratio.lower > MOST_SPREAD * ratio.ratio:
            reasons.append(f"the speedup's 95 % interval is wider than {MOST_SPREAD:.0%} of it")
    return fields | {"valid": {"ok": not reasons, "reasons": reasons}}
