"""What a cold start and a long run cost, as fields of a result row."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from tprune.android_runner.journal import Journal


def fields(journals: Sequence[Journal]) -> dict[str, Any]:
    """What a cold start costs, and the time of a token, as fields of a result row.

    `first_...` count from the start of loading; a token is a decoding step, the last one included.
    """
    loads, firsts, tokens = [], [], []
    for one in journals:
        assert one.load is not None
        loads.append(one.load.load_ns / 1e6)
        firsts.append(loads[-1] + one.sentences[0].total_ns / 1e6)
        tokens += [line.total_ns / 1e6 / (len(line.tokens) + 1) for line in one.timed]
    found: dict[str, Any] = {"load_ms": _told(loads), "first_sentence_ms": _told(firsts)}
    first = [one.sentences[0].first_token_ns for one in journals]
    if None not in first:  # one graph for everything does not tell its first token
        found["first_token_ms"] = _told([load + ns / 1e6 for load, ns in zip(loads, first, strict=True) if ns])
    return found | {"ms_per_token": float(np.median(tokens)), "mode": journals[0].start and journals[0].start.mode}


def minutes(long: Journal) -> list[float]:
    """Median time of a sentence by minute of work, in ms."""
    ends = np.cumsum([one.total_ns for one in long.timed]) / 60e9
    times = np.array([one.total_ns for one in long.timed]) / 1e6
    return [float(np.median(times[ends.astype(int) == minute])) for minute in np.unique(ends.astype(int))]


def _told(samples: list[float]) -> dict[str, Any]:
    return {"p50": float(np.median(samples)), "samples": samples}
