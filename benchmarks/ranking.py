"""Ablations: how criteria stand on each shape, as means over their seeds, and the curves they draw.

Only rows that name a criterion are looked at. A criterion's curve runs over the shapes, from slow to fast.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from tprune.benchmarks.record import Row
from tprune.benchmarks.result_table import DASH, DOUBTFUL
from tprune.benchmarks.standings import machine, setting, timed
from tprune.benchmarks.text_table import Table

Where = tuple[str, str, str, str]
"""Data set, split, engine with its settings, and machine: what rows must have in common to be ranked."""


@dataclass(frozen=True)
class Standing:
    """One criterion on one shape, over its seeds."""

    criterion: str
    shape: str
    rows: tuple[Row, ...]

    def mean(self, field: str) -> float | None:
        """Mean of a field over the seeds; None when one of them lacks it."""
        values = self.values(field)
        return fmean(values) if values and len(values) == len(self.rows) else None

    def values(self, field: str) -> list[float]:
        """A field of every seed that has it."""
        found = [getattr(row, field, None) for row in self.rows]
        return [float(value) for value in found if value is not None]

    @property
    def doubts(self) -> tuple[str, ...]:
        """Why the measurement of a seed may not be quoted; empty when all may be."""
        return tuple(dict.fromkeys(", ".join(row.valid.reasons) for row in self.rows if not row.valid.ok))


@dataclass(frozen=True)
class Ranking:
    """All criteria in one place."""

    where: Where
    dense_bleu: float | None
    standings: tuple[Standing, ...]

    @property
    def title(self) -> str:
        """The place in words."""
        dataset, split, how, on = self.where
        return f"{dataset} {split}, {how}, {on}"

    @property
    def criteria(self) -> tuple[str, ...]:
        """Names of the criteria, in the order in which they were measured: what colors go by."""
        return tuple(dict.fromkeys(standing.criterion for standing in self.standings))

    @property
    def curves(self) -> dict[str, tuple[Standing, ...]]:
        """Standings with speedup and BLEU by criterion, by rising speedup."""
        found: Mapping[str, list[Standing]] = {criterion: [] for criterion in self.criteria}
        for standing in self.standings:
            if standing.mean("speedup") is not None and standing.mean("bleu") is not None:
                found[standing.criterion].append(standing)
        return {
            name: tuple(sorted(curve, key=lambda standing: standing.mean("speedup") or 0.0))
            for name, curve in found.items()
            if curve
        }


def place(row: Row) -> Where:
    """Where a row was measured."""
    return row.dataset, row.split, setting(row), machine(row.environment)


def rankings(rows: Iterable[Row]) -> list[Ranking]:
    """Criteria by place; emulated rows stay out."""
    groups: dict[Where, dict[tuple[str, str], list[Row]]] = defaultdict(lambda: defaultdict(list))
    dense: dict[Where, float] = {}
    for row in rows:
        where = place(row)
        if row.dense and row.bleu is not None:
            dense[where] = row.bleu
        if row.criterion is not None and timed(row):
            groups[where][row.criterion, row.shape or DASH].append(row)
    return [
        Ranking(where, dense.get(where), tuple(Standing(*key, tuple(found)) for key, found in standings.items()))
        for where, standings in groups.items()
    ]


def ranking_tables(rows: Iterable[Row]) -> list[Table]:
    """One table for each place and shape: criteria by rising mean loss, those without one last."""
    tables = []
    for ranking in rankings(rows):
        for shape in dict.fromkeys(standing.shape for standing in ranking.standings):
            standings = [standing for standing in ranking.standings if standing.shape == shape]
            tables.append(
                Table(
                    f"{shape}: {ranking.title}",
                    ("Criterion", "Seeds", "Parameters", "Speedup", "BLEU", "BLEU loss", "Valid BLEU"),
                    (False, True, True, True, True, True, True),
                    tuple(_line(standing) for standing in sorted(standings, key=_by_loss)),
                    tuple(f"{DOUBTFUL} {one.criterion}: {'; '.join(one.doubts)}" for one in standings if one.doubts),
                )
            )
    return tables


def _by_loss(standing: Standing) -> tuple[bool, float]:
    loss = standing.mean("bleu_loss_percent")
    return loss is None, loss or 0.0


def _line(standing: Standing) -> tuple[str, ...]:
    parameters = standing.mean("parameters")
    return (
        standing.criterion,
        str(len(standing.rows)),
        DASH if parameters is None else f"{parameters / 1e6:.2f} M",
        _spread(standing, "speedup", 2, "x") + (f" {DOUBTFUL}" if standing.doubts else ""),
        _spread(standing, "bleu", 2),
        _spread(standing, "bleu_loss_percent", 1, " %"),
        _spread(standing, "valid_bleu", 2),
    )


def _spread(standing: Standing, field: str, digits: int, unit: str = "") -> str:
    """The mean, with several seeds also the least and the greatest."""
    mean, values = standing.mean(field), standing.values(field)
    if mean is None:
        return DASH
    ends: Sequence[float] = (min(values), max(values)) if len(values) > 1 else ()
    return f"{mean:.{digits}f}{unit}" + (f" ({'–'.join(f'{end:.{digits}f}' for end in ends)})" if ends else "")
