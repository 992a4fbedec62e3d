"""The README's result tables, printed from the result files so that they cannot drift."""

from pathlib import Path

from tprune.benchmarks.record import read_all
from tprune.benchmarks.result_table import engine_tables
from tprune.errors import InputError

BEGIN, END = "<!-- results -->", "<!-- /results -->"


def readme_tables(results_folder: Path) -> str:
    """Markdown tables of speedup and BLEU, one for each test set, engine and machine.

    Args:
        results_folder: Folder with result files, such as `benchmarks/results`.

    Raises:
        ArtifactError: No results there, or unreadable ones.
    """
    return "\n\n".join(table.markdown() for table in engine_tables(read_all(results_folder)))


def update_readme(readme_path: Path, results_folder: Path) -> bool:
    """Replace what stands between the markers by the tables of the results.

    Returns:
        Whether the file changed.

    Raises:
        InputError: Not one pair of markers.
        ArtifactError: No results, or unreadable ones.
    """
    text = readme_path.read_text(encoding="utf-8")
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise InputError(
            "no place for the results",
            where=readme_path,
            wanted=f"one {BEGIN} and one {END} after it",
            fix="add the two markers on lines of their own",
        )
    before, _, rest = text.partition(BEGIN)
    updated = f"{before}{BEGIN}\n\n{readme_tables(results_folder)}\n\n{END}{rest.partition(END)[2]}"
    if updated != text:
        readme_path.write_text(updated, encoding="utf-8")
    return updated != text
