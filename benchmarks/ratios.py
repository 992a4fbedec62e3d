"""A row's times, its speedup over a baseline of the same run, and whether they may be quoted."""

from collections.abc import Hashable, Mapping
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from tprune.benchmarks import stats

MOST_DRIFT = 0.5  # of a round's median from the median of all rounds
MOST_SPREAD = 0.2  # of a speedup: width of its 95 % interval

Candidate = TypeVar("Candidate", bound=Hashable)


def timed_fields(
    times: Mapping[Candidate, NDArray[np.float64]], candidate: Candidate, baseline: Candidate, name: str
) -> dict[str, Any]:
    """Latency, speedup and verdict of one candidate, as fields of a result row; arguments as for `ratio_fields`."""
    milliseconds = times[candidate]
    found = stats.percentiles(milliseconds)
    return {
        "latency_ms": {"p50": found.p50, "p90": found.p90, "samples": milliseconds.flatten().round(4).tolist()},
        **ratio_fields(times, candidate, baseline, name),
    }


def ratio_fields(
    times: Mapping[Candidate, NDArray[np.float64]],
    candidate: Candidate,
    baseline: Candidate,
    name: str,
    *,
    least_samples: int = stats.LEAST_SAMPLES,
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
    """

    def doubtful(milliseconds: NDArray[np.float64]) -> list[str]:
        return stats.doubts(milliseconds, least_samples=least_samples, most_drift=MOST_DRIFT)

    doubts = doubtful(times[candidate])
    fields: dict[str, Any] = {}
    if candidate != baseline:
        ratio = stats.speedup(times[baseline], times[candidate])
        fields = {
            "baseline": name,
            "speedup": ratio.ratio,
            "speedup_lower": ratio.lower,
            "speedup_upper": ratio.upper,
        }
        doubts += [f"{name}: {doubt}" for doubt in doubtful(times[baseline])]
        if ratio.lower is None or ratio.upper is None or ratio.upper - ratio.lower > MOST_SPREAD * ratio.ratio:
            doubts.append(f"the speedup's 95 % interval is wider than {MOST_SPREAD:.0%} of it")
    return fields | {"valid": {"ok": not doubts, "reasons": doubts}}
