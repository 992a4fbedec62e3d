"""The measured models at a glance: one line for each, with its speedup in every engine and precision."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

from tprune.benchmarks.record import Row
from tprune.benchmarks.result_table import DASH, DOUBTFUL, loss, number, place
from tprune.benchmarks.standings import timed
from tprune.benchmarks.text_table import Table
from tprune.delivery_config import PRECISIONS

Column = tuple[str, str]
"""Engine and precision."""
Line = tuple[str, str, int | None]
"""Experiment, model and seed."""


def summary_tables(rows: Iterable[Row]) -> list[Table]:
    """One table for each test set, search, number of threads and machine; intervals and most BLEUs are in other tables.

    BLEU and its loss are those of the first column in which the model was measured. Each experiment has its own dense
    model, whose other precisions stand in its line.
    """
    groups: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        if timed(row) and row.latency_ms is not None:
            threads = f"{row.threads} thread{'' if row.threads == 1 else 's'}"
            groups[f"{row.dataset} {row.split}, {row.decode}, {threads}, {place(row)}"].append(row)
    return [_table(title, members) for title, members in groups.items()]


def _table(title: str, rows: Sequence[Row]) -> Table:
    columns = sorted({_column(row) for row in rows}, key=_rank)
    lines: dict[Line, dict[Column, Row]] = defaultdict(dict)
    for row in rows:
        lines[row.experiment, row.model, None if row.dense else row.seed][_column(row)] = row
    experiments = sorted({row.experiment for row in rows})
    models = Counter((experiment, model) for experiment, model, _ in lines)

    slowest: dict[tuple[str, str], float] = {}
    for line, measured in lines.items():
        ratio = _first(measured, columns).speedup or 0
        slowest[line[:2]] = min(ratio, slowest.get(line[:2], ratio))

    def standing(line: Line) -> tuple[int, bool, float, int]:
        dense = _first(lines[line], columns).dense
        return experiments.index(line[0]), not dense, slowest[line[:2]], line[2] or 0

    return Table(
        title,
        ("Experiment", "Plan", "BLEU", "BLEU loss", *map(" ".join, columns)),
        (False, False, *(True for _ in range(2 + len(columns)))),
        tuple(
            (line[0], _said(line, models[line[:2]] > 1), *_cells(lines[line], columns))
            for line in sorted(lines, key=standing)
        ),
        () if all(row.valid.ok for row in rows) else (f"{DOUBTFUL} not valid: the full table says why",),
    )


def _said(line: Line, one_of_several: bool) -> str:
    return f"{line[1]}, seed {line[2]}" if one_of_several else line[1]


def _cells(measured: Mapping[Column, Row], columns: Sequence[Column]) -> tuple[str, ...]:
    found = _first(measured, columns)
    return (number(found.bleu, ".2f"), loss(found), *(_ratio(measured.get(column)) for column in columns))


def _first(measured: Mapping[Column, Row], columns: Sequence[Column]) -> Row:
    return next(measured[column] for column in columns if column in measured)


def _ratio(row: Row | None) -> str:
    if row is None or row.speedup is None:
        return DASH
    return f"{row.speedup:.2f}x" + ("" if row.valid.ok else f" {DOUBTFUL}")


def _column(row: Row) -> Column:
    return row.engine, row.precision


def _rank(column: Column) -> tuple[int, str, str]:
    engine, precision = column
    known = list(PRECISIONS)
    return known.index(engine) if engine in known else -1, engine, precision
