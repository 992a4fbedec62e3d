"""What is inside a bundle: operators of every graph, which of them run how, and what each costs on this machine."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from tprune.export.description import Bundle
from tprune.export.runtime import check
from tprune.model.engine import Ids

SOURCE_TOKENS = 20  # as in the comparisons of engines
STEPS = 24


@dataclass(frozen=True)
class Operator:
    """One kind of operator of a graph.

    Attributes:
        name: As the engine calls it.
        count: How often it stands in the graph; 0 where only the engine's own optimization puts it there.
        place: What runs it, or in which precision.
        microseconds: In one run of the graph, all of them together; None: not measured by itself.
    """

    name: str
    count: int
    place: str
    microseconds: float | None = None


@dataclass(frozen=True)
class Part:
    """One graph or method of a bundle.

    Attributes:
        name: See `tprune.export.tensors`.
        milliseconds: Median time of one run, measured without a profiler; None: no engine here runs it.
        operators: The dearest first.
        whole_microseconds: What the operators' times are parts of.
        notes: What the counts say in words, and how the times were measured.
    """

    name: str
    milliseconds: float | None
    operators: tuple[Operator, ...]
    whole_microseconds: float
    notes: tuple[str, ...]

    def share(self, operator: Operator) -> float | None:
        """An operator's part of the time."""
        return None if operator.microseconds is None else operator.microseconds / self.whole_microseconds


def explain(path: Path, threads: int = 1) -> list[Part]:
    """Count and measure the operators of a bundle.

    Args:
        path: The bundle's directory.
        threads: Threads of one operator.

    Raises:
        ArtifactError: No bundle, damaged, or for another version of the engine.
        MachineError: The engine is not installed.
        InputError: Fewer than one thread.
    """
    bundle = check(path, threads)
    if bundle.engine == "onnxruntime":
        from tprune.export import explain_ort

        return explain_ort.parts(bundle, threads)
    from tprune.export import explain_et

    return explain_et.parts(bundle, threads)


def example(bundle: Bundle) -> Ids:
    """A sentence (1, S) of random tokens, the same every time."""
    length = min(SOURCE_TOKENS, bundle.max_source)
    return np.random.default_rng(0).integers(0, bundle.vocabulary, (1, length))


def steps(bundle: Bundle) -> int:
    """Decoding steps to measure."""
    return min(STEPS, bundle.max_target)


def table(part: Part) -> Table:
    """One graph's operators for the terminal."""
    time = "not run" if part.milliseconds is None else f"{part.milliseconds:.2f} ms"
    found = Table(title=f"{part.name}: {time}", caption="\n".join(part.notes))
    found.title_justify = found.caption_justify = "left"
    for column in ("operator", "runs in"):
        found.add_column(column)
    for column in ("count", "µs a run", "share"):
        found.add_column(column, justify="right")
    for operator in part.operators:
        share = part.share(operator)
        time = "–" if operator.microseconds is None else f"{operator.microseconds:.1f}"
        found.add_row(
            operator.name, operator.place, str(operator.count), time, "–" if share is None else f"{share:.1%}"
        )
    return found


def as_data(parts: Sequence[Part]) -> list[Mapping[str, Any]]:
    """The same for programs; every operator with its share."""
    return [
        {**asdict(part), "operators": [asdict(entry) | {"share": part.share(entry)} for entry in part.operators]}
        for part in parts
    ]
