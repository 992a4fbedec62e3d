"""How far latency tables are from measured models, as tables for the documentation."""

from pathlib import Path

from tprune.benchmarks.record import Environment
from tprune.benchmarks.standings import machine
from tprune.benchmarks.text_table import Table
from tprune.errors import ArtifactError
from tprune.json_file import read_json

HEADS = ("Engine", "Precision", "Threads", "Models", "Error of", "Median", "90 % below", "Largest")
ERRORS = {"speedup": "speedup_error_percent", "time": "error_percent"}


def prediction_tables(folder: Path) -> list[Table]:
    """One table for each machine: what `tprune.benchmarks.prediction` found about its latency tables.

    Args:
        folder: Its files are those called `prediction-NAME.json`.

    Raises:
        ArtifactError: A file that is none of its.
    """
    lines: dict[str, list[tuple[str, ...]]] = {}
    for path in sorted(folder.glob("prediction-*.json")):
        found = read_json(path)
        try:
            title = f"latency tables, {machine(Environment.model_validate(found['environment']))}"
            given = (found["engine"], found["precision"], str(found["threads"]), str(found["models"]))
            for name, field in ERRORS.items():
                errors = [f"{found[field][figure]:.1f} %" for figure in ("median", "p90", "largest")]
                lines.setdefault(title, []).append((*given, name, *errors))
        except (KeyError, TypeError, ValueError) as error:
            raise ArtifactError(
                "no errors of predictions",
                where=path,
                got=f"{type(error).__name__}: {error}",
                fix="write it again with python -m tprune.benchmarks.prediction",
            ) from None
    numeric = (False, False, True, True, False, True, True, True)
    return [Table(title, HEADS, numeric, tuple(rows)) for title, rows in lines.items()]
