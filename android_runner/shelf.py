"""Which devices can be reached, and what they are, in a line each."""

from collections.abc import Iterator, Sequence

from tprune.android_runner.device import Facts, probe
from tprune.android_runner.links import adb_devices, open_link
from tprune.android_runner.refusals import refusal
from tprune.android_runner.transport import Device
from tprune.errors import MachineError, TpruneError


def lines(named: Sequence[str]) -> Iterator[str]:
    """This machine, everything on adb, and the named: one line each, also for those that are not ready.

    Args:
        named: As `--device` takes them.
    """
    yield _looked_at("local")
    try:
        listed = adb_devices()
    except MachineError as error:
        yield f"adb: {error}"
        listed = {}
    for serial, state in listed.items():
        if state == "device":
            yield _looked_at(f"adb:{serial}")
        else:
            yield str(refusal(f"adb:{serial}", f"error: device {state}") or f"adb:{serial}: {state}")
    for name in named:
        yield _looked_at(name)


def describe(facts: Facts) -> str:
    """One line; what is not known is left out."""
    clusters = ", ".join(
        f"{len(one.cpus)} x {one.max_khz / 1e6:.2f} GHz" for one in reversed(facts.clusters) if one.max_khz is not None
    )
    parts = [
        facts.model,
        facts.soc,
        facts.machine,
        facts.android and f"Android {facts.android}",
        clusters,
        facts.memory_bytes and f"{facts.memory_bytes / 2**30:.1f} GiB",
        facts.temperature_c is not None and f"{facts.temperature_c:.1f} °C",
        facts.battery.level_percent is not None and f"battery {facts.battery.level_percent} %",
    ]
    return f"{facts.name}: {facts.kind}, " + ", ".join(str(part) for part in parts if part)


def _looked_at(name: str) -> str:
    try:
        return describe(probe(Device(open_link(name))))
    except TpruneError as error:
        return str(error)
