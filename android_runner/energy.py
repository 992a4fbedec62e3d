"""What a sentence takes out of a device's battery, where the device tells it and nothing charges it.

The runner looks at the battery when it looks at clocks and temperatures: once a second between two sentences, so that
no sentence's time has a look in it. It is the power of the whole device, its screen and its radios included.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from tprune.android_runner import probe_text
from tprune.android_runner.journal import Journal


@dataclass(frozen=True)
class Drain:
    """What the timed part of a run took.

    Attributes:
        joules: Out of the battery.
        seconds: How long it was, with what lies between the sentences.
        samples: Looks at the battery.
    """

    joules: float
    seconds: float
    samples: int


def drain(run: Journal) -> Drain | None:
    """The timed part of a run: each look tells the power since the one before.

    None where one look is missing, or says that the battery was not all that fed the device.
    """
    looks = run.states[1:]  # the first is from before the engine was loaded, the next from the timed part's begin
    watts = [probe_text.battery_watts(one.power_supply or {}) for one in looks]
    if None in watts or len(looks) < 2:
        return None
    seconds = [(after.at_ns - before.at_ns) / 1e9 for before, after in pairwise(looks)]
    joules = sum(power * time for power, time in zip(watts[1:], seconds, strict=True) if power is not None)
    return Drain(joules, sum(seconds), len(seconds))


def fields(runs: Sequence[Journal]) -> dict[str, Any]:
    """`energy` of a result row: power of the device and energy of a sentence; nothing where a run does not tell it."""
    drains = [one for one in map(drain, runs) if one is not None]
    if len(drains) < len(runs) or not runs:
        return {}
    joules, seconds = (sum(getattr(one, name) for one in drains) for name in ("joules", "seconds"))
    return {
        "energy": {
            "joules_per_sentence": joules / sum(len(one.timed) for one in runs),
            "watts": joules / seconds,
            "samples": sum(one.samples for one in drains),
        }
    }
