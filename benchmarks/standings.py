"""Where the measured models stand: speedup against BLEU.

Both the interactive figures and the pictures draw these views, so that they cannot disagree.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tprune.benchmarks.record import Environment, Row

EMULATED = "emulated-arm64"
KINDS = {
    "phone": "phone",
    "sbc": "single-board computer",
    "host-x86": "host (x86)",
    "host-arm64": "host (Arm64)",
    EMULATED: "emulated (Arm64)",
}
PAPER_SPEEDUP, PAPER_LOSS_PERCENT = (1.16, 1.92), (0.0, 8.0)  # TPrune's abstract, on phones


@dataclass(frozen=True)
class Point:
    """One row on the plane of speedup and BLEU."""

    speedup: float
    bleu: float
    row: Row


@dataclass(frozen=True)
class Series:
    """Points of one engine, precision, thread count and machine, by rising speedup."""

    name: str
    kind: str
    points: tuple[Point, ...]

    @property
    def front(self) -> tuple[Point, ...]:
        """The points that no other one beats in both speedup and BLEU."""
        return tuple(
            point
            for point in self.points
            if not any(
                other.speedup >= point.speedup
                and other.bleu >= point.bleu
                and (other.speedup, other.bleu) != (point.speedup, point.bleu)
                for other in self.points
            )
        )


@dataclass(frozen=True)
class Plane:
    """All series of one test set."""

    dataset: str
    split: str
    series: tuple[Series, ...]

    @property
    def dense_bleu(self) -> float | None:
        """The best BLEU of a dense row."""
        return max((point.bleu for series in self.series for point in series.points if point.row.dense), default=None)


def timed(row: Row) -> bool:
    """Whether the row's latency may be shown: emulation tells nothing about time."""
    return row.environment.kind != EMULATED


def machine(environment: Environment) -> str:
    """The machine in words, always beginning with what kind of machine it is."""
    cpu = re.sub(r"\((?:R|TM)\)|\bCPU\b|@.*", "", environment.cpu)
    device = (environment.model_extra or {}).get("device")
    return f"{KINDS[environment.kind]}: {', '.join(' '.join(part.split()) for part in (device, cpu) if part)}"


def setting(row: Row) -> str:
    """Engine, precision, threads and search in words; of a device's native runner also which device and processors."""
    threads = "" if row.threads is None else f", {row.threads} thread{'s' if row.threads > 1 else ''}"
    said = row.model_extra or {}
    native = f", runner on {said['device']}" if said.get("device") else ""
    pin = f", pinned to {said['pin']}" if said.get("pin") else ""
    return f"{row.engine} {row.precision}{threads}, {row.decode}{native}{pin}"


def planes(rows: Iterable[Row]) -> list[Plane]:
    """Speedup and BLEU by test set; rows that lack one of them, or are emulated, stay out."""
    sets: dict[tuple[str, str], dict[tuple[str, str], list[Point]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        speedup = 1.0 if row.dense and row.speedup is None and row.latency_ms else row.speedup
        if timed(row) and speedup is not None and row.bleu is not None:
            points = sets[row.dataset, row.split][setting(row), machine(row.environment)]
            points.append(Point(speedup, row.bleu, row))
    return [
        Plane(*name, tuple(_series(*key, points) for key, points in series.items())) for name, series in sets.items()
    ]


def _series(name: str, where: str, points: Sequence[Point]) -> Series:
    ordered = tuple(sorted(points, key=lambda point: (point.speedup, -point.bleu)))
    return Series(f"{name} · {where}", ordered[0].row.environment.kind, ordered)
