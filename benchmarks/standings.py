"""Where the measured models stand: speedup against BLEU, and the best within a limit on the loss.

Both the interactive figures and the pictures draw these views, so that they cannot disagree.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean

from tprune.benchmarks.record import Environment, Row

EMULATED = "emulated-arm64"
KINDS = {"phone": "phone", "sbc": "single-board computer", "host-x86": "host (x86)", EMULATED: "emulated (Arm64)"}
LIMITS_PERCENT = (1.0, 3.0, 8.0)
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


@dataclass(frozen=True)
class Best:
    """The fastest pruned model within a limit on the BLEU loss, as the mean over its seeds."""

    limit_percent: float
    row: Row
    speedup: float
    loss_percent: float
    seeds: int


@dataclass(frozen=True)
class Headline:
    """The best of one test set on one machine, for those limits that any model meets."""

    dataset: str
    split: str
    environment: Environment
    best: tuple[Best, ...]


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


def headlines(rows: Iterable[Row]) -> list[Headline]:
    """The best valid speedups by test set and machine; phones first, hosts last."""
    models: dict[tuple[str, str, str], dict[tuple[str, ...], list[tuple[float, float, Row]]]] = defaultdict(
        lambda: defaultdict(list)
    )
    for row in rows:
        speedup, loss = row.speedup, row.bleu_loss_percent
        if timed(row) and row.valid.ok and row.pruned and speedup is not None and loss is not None:
            seeds = models[row.dataset, row.split, machine(row.environment)]
            seeds[row.model, setting(row), row.baseline or ""].append((speedup, loss, row))
    found = [
        Headline(dataset, split, next(iter(seeds.values()))[0][2].environment, tuple(_best(seeds.values())))
        for (dataset, split, _), seeds in models.items()
    ]
    return sorted(found, key=lambda headline: list(KINDS).index(headline.environment.kind))


def _series(name: str, where: str, points: Sequence[Point]) -> Series:
    ordered = tuple(sorted(points, key=lambda point: (point.speedup, -point.bleu)))
    return Series(f"{name} · {where}", ordered[0].row.environment.kind, ordered)


def _best(models: Iterable[Sequence[tuple[float, float, Row]]]) -> Iterator[Best]:
    means = [
        (fmean(speedup for speedup, _, _ in seeds), fmean(loss for _, loss, _ in seeds), seeds) for seeds in models
    ]
    for limit in LIMITS_PERCENT:
        within = [mean for mean in means if mean[1] <= limit]
        if within:
            speedup, loss, seeds = max(within, key=lambda mean: (mean[0], -mean[1]))
            yield Best(limit, seeds[0][2], speedup, loss, len(seeds))
