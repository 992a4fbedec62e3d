"""What a native runner wrote: JSON lines, an end marker, and a hash of all lines before it.

An exit code says nothing here: `adb shell` returns 0 when the device vanished in mid-command. A run counts when its end
marker is there and the hash is right; one that was cut off can be read up to its last whole line.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tprune.errors import MachineError

SCHEMA = 1
SIGNALED = 128  # a shell adds this to the signal's number
Nanoseconds = Annotated[int, Field(ge=0)]


class Line(BaseModel):
    """A line of the journal; fields of later runners are kept."""

    model_config = ConfigDict(frozen=True, extra="allow", strict=True)


class Start(Line):
    """The run as the runner understood it."""

    mode: str
    threads: int
    cpus: list[int]
    """Processors that the process was allowed to run on."""
    sentences: int


class Load(Line):
    """The engine, loaded."""

    engine: str
    engine_version: str
    load_ns: Nanoseconds


class State(Line):
    """The machine at one moment; what it does not tell is null."""

    at_ns: Nanoseconds
    frequency_khz: dict[str, int | None] | None
    temperature_mc: dict[str, int | None] | None
    """Thousandths of a degree Celsius by zone."""
    resident_bytes: int | None
    peak_resident_bytes: int | None
    power_supply: dict[str, str] | None = None
    """What the kernel says of battery and plugs, see `probe_text.battery_watts`."""


class Translated(Line):
    """One sentence."""

    index: Annotated[int, Field(ge=0)]
    timed: bool
    """Off for the sentences that only warm up."""
    total_ns: Nanoseconds
    library_ns: Nanoseconds
    """Of that, within the inference library."""
    encode_ns: Nanoseconds | None
    first_token_ns: Nanoseconds | None
    """Both null where one graph does everything."""
    tokens: list[int]


class Journal(BaseModel):
    """All that a runner wrote."""

    model_config = ConfigDict(frozen=True)

    complete: bool
    """Whether the end marker is there and the hash is right."""
    start: Start | None = None
    load: Load | None = None
    states: tuple[State, ...] = ()
    sentences: tuple[Translated, ...] = ()
    error: str | None = None
    """What the runner died of, when it could say so."""

    @property
    def timed(self) -> tuple[Translated, ...]:
        """The timed sentences, in the order in which they were run."""
        return tuple(one for one in self.sentences if one.timed)

    @property
    def overhead(self) -> float:
        """Time of the timed sentences outside the inference library, relative to the time in it."""
        library = sum(one.library_ns for one in self.timed)
        return (sum(one.total_ns for one in self.timed) - library) / library

    @property
    def peak_bytes(self) -> int | None:
        """Most resident memory of the process."""
        return max(
            (one.peak_resident_bytes for one in self.states if one.peak_resident_bytes is not None), default=None
        )


def parse(content: bytes) -> Journal:
    """Read a journal up to its last whole line; whatever it holds, it is never an error."""
    lines = content.split(b"\n")[:-1]  # behind the last newline stands nothing, or half a line
    found: dict[str, list[Any]] = {"start": [], "load": [], "state": [], "sentence": [], "error": []}
    complete, read = False, 0
    for number, line in enumerate(lines):
        entry = _object(line)
        kind = entry.pop("kind", None)
        if kind == "end":
            complete = number == len(lines) - 1 and content.endswith(b"\n") and _agrees(entry, lines[:number])
            break
        if not isinstance(kind, str) or kind not in LINES:
            break
        try:
            found[kind].append(LINES[kind].model_validate(entry))
        except ValidationError:
            break
        read += len(line) + 1
    errors = [str(line.model_extra["message"]) for line in found["error"] if "message" in (line.model_extra or {})]
    return Journal(
        complete=complete and len(found["start"]) == 1 and len(found["load"]) == 1 and not found["error"],
        start=next(iter(found["start"]), None),
        load=next(iter(found["load"]), None),
        states=tuple(found["state"]),
        sentences=tuple(found["sentence"]),
        error=next(iter(errors), None),
    )


def finished(content: bytes, where: str, log: str = "", status: int | None = None) -> Journal:
    """Read the journal of a run that has to be complete.

    Args:
        content: The file's.
        where: Which run, for the error.
        log: What the runner said besides.
        status: What its process left as a shell tells it, where that is known.

    Raises:
        MachineError: It is not; the error tells what the runner said, or what ended it.
    """
    journal = parse(content)
    if journal.complete:
        return journal
    said = journal.error or log.strip().rpartition("\n")[2]
    if journal.error is None and status is not None and status > SIGNALED:
        number = status - SIGNALED
        raise MachineError(
            "the runner was killed",
            where=where,
            got=f"signal {number}, after {len(journal.sentences)} sentences" + (f": {said}" if said else ""),
            fix=KILLED.get(number, "look at the device's log (`adb logcat`, `dmesg`)"),
        )
    raise MachineError(
        "the runner failed" if said else "the run ended early",
        where=where,
        got=said or f"{len(journal.sentences)} sentences and no valid end marker",
        fix="correct what it says" if said else "run the same command again: it begins this run anew",
    )


def _object(line: bytes) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _agrees(end: Mapping[str, Any], lines: list[bytes]) -> bool:
    written = b"".join(line + b"\n" for line in lines)
    return end.get("lines") == len(lines) and end.get("sha256") == hashlib.sha256(written).hexdigest()


KILLED: Mapping[int, str] = {
    4: "build the engine for this processor: it does not know one of its instructions",
    9: "free memory on the device, which ends programs when there is none left",
}
LINES: Mapping[str, type[Line]] = {
    "start": Start,
    "load": Load,
    "state": State,
    "sentence": Translated,
    "error": Line,
}
