"""The result tables of README and docs/benchmarks.md, printed from the result files so that they cannot drift."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from tprune.benchmarks.prediction_tables import prediction_tables
from tprune.benchmarks.ranking import ranking_tables
from tprune.benchmarks.record import Row, read_all
from tprune.benchmarks.result_table import engine_tables, footprint_tables, peer_tables, throughput_tables
from tprune.benchmarks.summary import summary_tables
from tprune.benchmarks.text_table import Table
from tprune.errors import ArtifactError, InputError

SYNTHETIC = "synthetic"  # the built-in corpus, as rows call it


def _real(rows: Iterable[Row]) -> list[Table]:
    return engine_tables([row for row in rows if row.dataset != SYNTHETIC])


def _summary(rows: Iterable[Row]) -> list[Table]:
    return summary_tables(row for row in rows if row.dataset != SYNTHETIC)


def _synthetic(rows: Iterable[Row]) -> list[Table]:
    return engine_tables([row for row in rows if row.dataset == SYNTHETIC])


def _of_rows(form: Callable[[Iterable[Row]], list[Table]]) -> Callable[[Path], list[Table]]:
    return lambda folder: form(read_all(folder))


SECTIONS: Mapping[str, tuple[str, Callable[[Path], list[Table]]]] = {
    "summary": (".", _of_rows(_summary)),
    "results": (".", _of_rows(_real)),
    "synthetic": (".", _of_rows(_synthetic)),
    "earlier": ("earlier", _of_rows(engine_tables)),
    "decode": ("decode", _of_rows(peer_tables)),
    "precision": ("precision", _of_rows(engine_tables)),
    "shortlist": ("shortlist", _of_rows(engine_tables)),
    "throughput": ("throughput", _of_rows(throughput_tables)),
    "footprint": ("footprint", _of_rows(footprint_tables)),
    "prediction": ("table", prediction_tables),
    "ranking": ("ranking", _of_rows(ranking_tables)),
}
"""By the name of their markers, `<!-- results -->` and `<!-- /results -->`: folder of result files, and their form."""


def readme_tables(results_folder: Path) -> dict[str, str]:
    """Markdown tables by section; a section that has none is left out.

    Args:
        results_folder: Folder with result files, such as `benchmarks/results`.

    Raises:
        ArtifactError: No such folder, no results there, or unreadable ones.
    """
    if not results_folder.is_dir():
        raise ArtifactError(
            "no such folder", where=results_folder, fix="give a folder of result files, such as benchmarks/results"
        )
    found = {
        name: "\n\n".join(table.markdown() for table in form(results_folder / folder))
        for name, (folder, form) in SECTIONS.items()
        if (results_folder / folder).is_dir()
    }
    return {name: tables for name, tables in found.items() if tables}


def update_readme(text_path: Path, results_folder: Path) -> bool:
    """Replace what stands between the markers of each section that a text has by its tables.

    Returns:
        Whether the file changed.

    Raises:
        InputError: No such text, a text without markers, or not one pair of them for a section.
        ArtifactError: No results, or unreadable ones.
    """
    if not text_path.is_file():
        raise InputError("no such text", where=text_path, fix="give a file with markers, such as README.md")
    text = updated = text_path.read_text(encoding="utf-8")
    tables = {name: made for name, made in readme_tables(results_folder).items() if _is_marked(text, name)}
    for name, made in tables.items():
        updated = _filled(updated, name, made, text_path)
    if not tables:
        raise _no_place(text_path, sorted(SECTIONS))
    if updated != text:
        text_path.write_text(updated, encoding="utf-8")
    return updated != text


def _is_marked(text: str, name: str) -> bool:
    return any(marker in text for marker in _markers(name))


def _filled(text: str, name: str, tables: str, path: Path) -> str:
    begin, end = _markers(name)
    if text.count(begin) != 1 or text.count(end) != 1 or text.index(begin) > text.index(end):
        raise _no_place(path, [name])
    before, _, rest = text.partition(begin)
    return f"{before}{begin}\n\n{tables}\n\n{end}{rest.partition(end)[2]}"


def _no_place(path: Path, names: Sequence[str]) -> InputError:
    pairs = [" and ".join((begin, f"one {end} after it")) for begin, end in map(_markers, names)]
    return InputError(
        "no place for the results",
        where=path,
        wanted="one " + " or ".join(pairs),
        fix="add the two markers on lines of their own",
    )


def _markers(name: str) -> tuple[str, str]:
    return f"<!-- {name} -->", f"<!-- /{name} -->"
