"""Rows as tables in words: what is missing is a dash, and no latency comes from emulation."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from tprune.benchmarks.record import Row
from tprune.benchmarks.standings import machine, setting, timed
from tprune.benchmarks.text_table import Table

DASH = "–"
DOUBTFUL = "†"
WHERE_KNOWN = {"Energy": "energy"}  # columns that a table has only where a row has the field


def result_tables(rows: Iterable[Row]) -> list[Table]:
    """One table for each test set and machine, everything that was measured there."""
    return _tables(
        rows,
        lambda row: f"{row.dataset} {row.split} on {machine(row.environment)}",
        ("Plan", "Engine", "Parameters", "Size", "p50", "p90", "Speedup", "BLEU", "chrF", "BLEU loss"),
    )


def device_tables(rows: Iterable[Row]) -> list[Table]:
    """One table for each test set and device: what its native runner measured besides."""
    return _tables(
        (row for row in rows if timed(row) and _extra(row, "ms_per_token") is not None),
        lambda row: f"{row.dataset} {row.split}, native runner on {machine(row.environment)}",
        ("Plan", "Engine", "p50", "p90", "p99", "Token", "Load", "First token", "First sentence", "Process memory"),
        {"First → last minute": "sustained_ms", **WHERE_KNOWN},
    )


def engine_tables(rows: Iterable[Row]) -> list[Table]:
    """One table for each test set, engine and machine, as they stand in the README; experiments there stand apart."""
    rows = list(rows)
    experiments: dict[str, set[str]] = defaultdict(set)

    def where(row: Row) -> str:
        return f"{row.dataset} {row.split}, {_release(row)}, {place(row)}"

    for row in rows:
        experiments[where(row)].add(row.experiment)
    return _tables(
        rows,
        lambda row: where(row) + (f": {row.experiment}" if len(experiments[where(row)]) > 1 else ""),
        ("Plan", "Precision", "Threads", "Search", "Parameters", "Size", "p50", "Speedup", "BLEU", "BLEU loss"),
    )


def peer_tables(rows: Iterable[Row]) -> list[Table]:
    """One table for each comparison of engines and machine: time as a share of the peer's, and over the floor."""
    return _tables(
        rows,
        lambda row: f"{row.experiment}, {machine(row.environment)}",
        ("Engine", "Size", "p50", "Time", "Time / floor"),
    )


def footprint_tables(rows: Iterable[Row]) -> list[Table]:
    """One table for each model and machine: what an engine takes besides its time for a sentence."""
    return _tables(
        rows,
        lambda row: f"{row.dataset}, one sentence in a fresh process, {machine(row.environment)}",
        ("Engine", "Size", "Load", "First token", "From start", "Engine memory", "Process memory"),
    )


def throughput_tables(rows: Iterable[Row]) -> list[Table]:
    """One table for each test set and machine: sentences per second in batches."""
    return _tables(
        rows,
        lambda row: f"{row.dataset} {row.split}, batches of {_extra(row, 'batch_size')}, {machine(row.environment)}",
        ("Engine", "Sentences/s", "Time"),
    )


def measured_table(rows: Iterable[Row]) -> Table:
    """What was measured where: engines, versions, machines, samples, and what is not valid."""
    groups: dict[tuple[str, ...], list[Row]] = defaultdict(list)
    for row in rows:
        groups[_release(row), row.precision, number(row.threads, "d"), place(row)].append(row)
    lines = []
    for key, members in groups.items():
        samples = [len(row.latency_ms.samples) for row in members if row.latency_ms and timed(row)]
        doubts = [f"{row.model}: {', '.join(row.valid.reasons)}" for row in members if not row.valid.ok]
        valid = f"{len(members) - len(doubts)} of {len(members)}"
        lines.append((*key, str(len(members)), number(sum(samples) or None, ",d"), "; ".join([valid, *doubts])))
    return Table(
        "",
        ("Engine", "Precision", "Threads", "Machine", "Rows", "Latency samples", "Valid"),
        (False, False, True, False, True, True, False),
        tuple(lines),
    )


def plan_table(plans: Mapping[str, Mapping[str, Any]]) -> Table:
    """How each plan was made: its scalar settings, one column each."""
    scalars = {
        name: {key: value for key, value in plan.items() if isinstance(value, str | int | float) and key != "name"}
        for name, plan in plans.items()
    }
    keys = tuple(dict.fromkeys(key for plan in scalars.values() for key in plan))
    lines = tuple((name, *(number(plan.get(key), "") for key in keys)) for name, plan in scalars.items())
    return Table("", ("Plan", *(key.replace("_", " ") for key in keys)), (False,) * (len(keys) + 1), lines)


def sparsity_table(analysis: Mapping[str, Any]) -> Table:
    """BSSL's shares of sparse lines, by component and axis."""
    lines = [
        (
            entry["component"],
            *(cell for axis in ("rows", "columns") for cell in (f"{entry[axis]:.0%}", str(entry[f"lines_{axis}"]))),
        )
        for entry in analysis["components"]
    ]
    return Table(
        "Sparse lines after every block's own group lasso",
        ("Component", "Sparse rows", "of", "Sparse columns", "of"),
        (False, True, True, True, True),
        tuple(lines),
    )


def rows_to_markdown(rows: Sequence[Row]) -> str:
    """Every result and where it was measured, as Markdown tables."""
    return "\n\n".join(table.markdown() for table in (*result_tables(rows), measured_table(rows)))


def number(value: object, form: str) -> str:
    """A formatted value, or a dash for one that was not measured."""
    return DASH if value is None else format(value, form)


def loss(row: Row) -> str:
    """Relative BLEU loss with its bound."""
    if row.bleu_loss_percent is None:
        return DASH
    bound = "" if row.bleu_loss_upper_percent is None else f" (≤ {row.bleu_loss_upper_percent:.1f} %)"
    return f"{row.bleu_loss_percent:.1f} %{bound}"


def speedup(row: Row) -> str:
    """Speedup with its 95 % interval, marked when the row is not valid."""
    if row.speedup is None or not timed(row):
        return DASH
    return f"{row.speedup:.2f}x{_interval(row.speedup_lower, row.speedup_upper)}{_doubt(row)}"


def share(row: Row) -> str:
    """Time as a share of the baseline's, with its 95 % interval."""
    if row.speedup is None or not timed(row) or row.baseline is None:
        return DASH
    least, most = (None if bound is None else 1 / bound for bound in (row.speedup_upper, row.speedup_lower))
    return f"{1 / row.speedup:.2f}{_interval(least, most)} of {row.baseline}{_doubt(row)}"


def over_floor(row: Row) -> str:
    """Time over the least that this machine can take, see `tprune.benchmarks.floor`."""
    least = _extra(row, "floor_ms")
    return f"{row.latency_ms.p50 / least:.2f}" if row.latency_ms and timed(row) and least else DASH


def milliseconds(row: Row, name: str) -> str:
    """A percentile of the latency, `p50` or `p90`."""
    found = getattr(row.latency_ms, name, None) if timed(row) else None
    return DASH if found is None else f"{found:.1f} ms"


def millions(count: int | None, unit: str) -> str:
    """A count of parameters or bytes in millions."""
    return DASH if count is None else f"{count / 1e6:.2f} {unit}"


def place(row: Row) -> str:
    """The machine; of what a native runner measured also which device, and on which of its processors."""
    device, pin = _extra(row, "device"), _extra(row, "pin")
    return machine(row.environment) + (f", runner on {device}, pinned to {pin}" if device and pin else "")


def _extra(row: Row, name: str) -> Any:
    return (row.model_extra or {}).get(name)


def _median(name: str, unit: str, divisor: float = 1, digits: int = 0) -> Callable[[Row], str]:
    """A measured field of one benchmark's own, the median where it has samples, with its unit."""

    def cell(row: Row) -> str:
        found = _extra(row, name)
        median = found["p50"] if isinstance(found, Mapping) else found
        return DASH if median is None else f"{median / divisor:.{digits}f} {unit}".rstrip()

    return cell


def energy(row: Row) -> str:
    """What a sentence takes out of a device's battery."""
    found = _extra(row, "energy")
    return f"{found['joules_per_sentence']:.3g} J ({found['samples']} samples)" if found else DASH


def sustained(row: Row) -> str:
    """What a sentence takes in the first and the last minute of a long run."""
    found = _extra(row, "sustained_ms")
    return DASH if not found or not timed(row) else " → ".join(f"{ms:.1f}" for ms in (found[0], found[-1])) + " ms"


def _interval(lower: float | None, upper: float | None) -> str:
    return "" if lower is None or upper is None else f" ({lower:.2f}–{upper:.2f})"


def _doubt(row: Row) -> str:
    return "" if row.valid.ok else f" {DOUBTFUL}"


def _tables(
    rows: Iterable[Row],
    title: Callable[[Row], str],
    columns: Sequence[str],
    where_known: Mapping[str, str] = WHERE_KNOWN,
) -> list[Table]:
    groups: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        groups[title(row)].append(row)
    return [_table(name, members, columns, where_known) for name, members in groups.items()]


def _table(title: str, rows: Sequence[Row], columns: Sequence[str], where_known: Mapping[str, str]) -> Table:
    ordered = sorted(
        rows, key=lambda row: (row.engine, row.precision, row.threads or 0, row.decode, not row.dense, row.speedup or 0)
    )
    if len({row.seed for row in rows}) > 1:
        columns = (columns[0], "Seed", *columns[1:])
    if "Plan" not in columns and not all(row.dense for row in rows):
        columns = ("Plan", *columns)
    columns = (*columns, *(name for name, field in where_known.items() if any(_extra(row, field) for row in rows)))
    doubts: dict[str, list[str]] = defaultdict(list)
    for row in ordered:
        if not row.valid.ok:
            doubts[", ".join(row.valid.reasons)].append(f"{row.model}, {setting(row)}")
    notes = [f"{DOUBTFUL} {reasons}: {'; '.join(named)}" for reasons, named in doubts.items()]
    return Table(
        title,
        tuple(columns),
        tuple(_COLUMNS[column][0] for column in columns),
        tuple(tuple(_COLUMNS[column][1](row) for column in columns) for row in ordered),
        tuple(notes),
    )


def _release(row: Row) -> str:
    return f"{row.engine} {row.engine_version or ''}".strip()


_COLUMNS: Mapping[str, tuple[bool, Callable[[Row], str]]] = {
    "Plan": (False, lambda row: row.model),
    "Seed": (True, lambda row: number(row.seed, "d")),
    "Engine": (False, setting),
    "Precision": (False, lambda row: row.precision),
    "Threads": (True, lambda row: number(row.threads, "d")),
    "Search": (False, lambda row: row.decode),
    "Parameters": (True, lambda row: millions(row.parameters, "M")),
    "Size": (True, lambda row: millions(row.size_bytes, "MB")),
    "p50": (True, lambda row: milliseconds(row, "p50")),
    "p90": (True, lambda row: milliseconds(row, "p90")),
    "p99": (True, lambda row: milliseconds(row, "p99")),
    "Token": (True, _median("ms_per_token", "ms", digits=2)),
    "Speedup": (True, speedup),
    "Time": (True, share),
    "Time / floor": (True, over_floor),
    "Load": (True, _median("load_ms", "ms")),
    "First token": (True, _median("first_token_ms", "ms")),
    "First sentence": (True, _median("first_sentence_ms", "ms")),
    "From start": (True, _median("whole_first_token_ms", "ms")),
    "Engine memory": (True, _median("engine_memory_bytes", "MiB", 2**20)),
    "Process memory": (True, _median("peak_memory_bytes", "MiB", 2**20)),
    "Energy": (True, energy),
    "First → last minute": (True, sustained),
    "Sentences/s": (True, _median("sentences_per_second", "")),
    "BLEU": (True, lambda row: number(row.bleu, ".2f")),
    "chrF": (True, lambda row: number(row.chrf, ".1f")),
    "BLEU loss": (True, loss),
}
