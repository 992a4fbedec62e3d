"""Between which clocks and temperatures a device was while it was timed, as far as it tells them."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tprune.android_runner import probe_text
from tprune.android_runner.journal import Journal

LEAST_CLOCK = 0.8  # of the highest one, for processors that a run was pinned to


def slowed(runs: Sequence[Journal]) -> str | None:
    """Why times may not be quoted: a processor's clock fell far while it was timed; None: it did not, or is unknown.

    A board has no thermometer that the gate looks at, and slows down when it is hot or its power supply is weak.
    """
    for cpu, ends in fields(runs).get("frequency_khz", {}).items():
        if ends["min"] < LEAST_CLOCK * ends["max"]:
            return f"the clock of processor {cpu} was between {ends['min'] / 1e6:.2f} and {ends['max'] / 1e6:.2f} GHz"
    return None


def fields(runs: Sequence[Journal]) -> dict[str, Any]:
    """Lowest and highest reading over the timed parts of all runs, as fields of a result row; nothing where none is.

    `frequency_khz` is by processor, of those that a run could be on; `temperature_c` is by number and name of the zone.
    """
    clocks, zones = [], []
    for run in runs:
        own = {str(cpu) for cpu in run.start.cpus} if run.start is not None else set()
        for state in run.states[1:]:  # the first is from before the engine was loaded
            clocks.append({cpu: khz for cpu, khz in (state.frequency_khz or {}).items() if cpu in own})
            zones.append({zone: _sensible(mc) for zone, mc in (state.temperature_mc or {}).items()})
    found = {
        "frequency_khz": _between(clocks),
        "temperature_c": {zone: {end: mc / 1000 for end, mc in ends.items()} for zone, ends in _between(zones).items()},
    }
    return {name: readings for name, readings in found.items() if readings}


def _sensible(mc: int | None) -> int | None:
    """A zone's temperature; one that is off says 0, or what nothing can have."""
    return mc if mc and probe_text.celsius(mc / 1000) is not None else None


def _between(looks: Iterable[Mapping[str, int | None]]) -> dict[str, dict[str, int]]:
    values: dict[str, list[int]] = {}
    for look in looks:
        for name, value in look.items():
            if value is not None:
                values.setdefault(name, []).append(value)
    return {name: {"min": min(all_of), "max": max(all_of)} for name, all_of in values.items()}
