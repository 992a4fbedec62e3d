"""The README's result tables, printed from the result files so that they cannot drift."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from tprune.benchmarks.record import Row, read_all
from tprune.benchmarks.result_table import Table, engine_tables, footprint_tables, peer_tables, throughput_tables
from tprune.errors import InputError

SECTIONS: Mapping[str, tuple[str, Callable[[Iterable[Row]], list[Table]]]] = {
    "results": (".", engine_tables),
    "decode": ("decode", peer_tables),
    "precision": ("precision", engine_tables),
    "shortlist": ("shortlist", engine_tables),
    "throughput": ("throughput", throughput_tables),
    "footprint": ("footprint", footprint_tables),
}
"""By the name of their markers, `<!-- results -->` and `<!-- /results -->`: folder of result files, and their form."""


def readme_tables(results_folder: Path) -> dict[str, str]:
    """Markdown tables by section; a section without a folder is left out.

    Args:
        results_folder: Folder with result files, such as `benchmarks/results`.

    Raises:
        ArtifactError: No results there, or unreadable ones.
    """
    return {
        name: "\n\n".join(table.markdown() for table in form(read_all(results_folder / folder)))
        for name, (folder, form) in SECTIONS.items()
        if (results_folder / folder).is_dir()
    }


def update_readme(readme_path: Path, results_folder: Path) -> bool:
    """Replace what stands between the markers of each section by its tables.

    Returns:
        Whether the file changed.

    Raises:
        InputError: Not one pair of markers for a section.
        ArtifactError: No results, or unreadable ones.
    """
    text = updated = readme_path.read_text(encoding="utf-8")
    for name, tables in readme_tables(results_folder).items():
        begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
        if updated.count(begin) != 1 or updated.count(end) != 1 or updated.index(begin) > updated.index(end):
            raise InputError(
                "no place for the results",
                where=readme_path,
                wanted=f"one {begin} and one {end} after it",
                fix="add the two markers on lines of their own",
            )
        before, _, rest = updated.partition(begin)
        updated = f"{before}{begin}\n\n{tables}\n\n{end}{rest.partition(end)[2]}"
    if updated != text:
        readme_path.write_text(updated, encoding="utf-8")
    return updated != text
