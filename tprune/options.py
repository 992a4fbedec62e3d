"""What the verbs of the command line have in common: their options, what these stand for, and the last line."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tprune import settings

if TYPE_CHECKING:
    from tprune.artifact import Artifact
    from tprune.config import Config
    from tprune.stage import Stage

Out = Annotated[Path, typer.Option("--out", help="Directory to write.")]
Force = Annotated[bool, typer.Option("--force", help="Replace what is there.")]
Recipe = Annotated[str | None, typer.Option("--recipe", help="A recipe's name or file; the defaults without one.")]
Overrides = Annotated[list[str] | None, typer.Option("--set", help="section.key=value; may be repeated.")]
Folder = Annotated[Path, typer.Argument(help="An artifact's directory.")]


def print_rows(folder: Path) -> None:
    """Print the result rows of a file or a folder as tables."""
    from tprune.benchmarks import record
    from tprune.benchmarks.ranking import ranking_tables
    from tprune.benchmarks.result_table import rows_to_markdown

    rows = record.read_all(folder)
    typer.echo("\n\n".join([*(table.markdown() for table in ranking_tables(rows)), rows_to_markdown(rows)]))


def done(path: Path) -> None:
    """Print the one line a verb ends with: where its artifact is."""
    typer.echo(str(path))


def settings_of(recipe: str | None, overrides: list[str] | None) -> "Config":
    """The settings of a recipe, or the defaults, with what the command line says otherwise."""
    return settings.load(recipe, overrides or []) if recipe else settings.defaults(overrides or [])


def maybe(path: Path | None, kind: str) -> "Artifact | None":
    """An artifact of a kind, where one was given."""
    from tprune import artifact

    return None if path is None else artifact.read(path, kind)


def maybe_table(path: Path | None) -> "Artifact | None":
    """A latency table, where one was given: its directory, or the JSON file in it."""
    from tprune.benchmarks.table import open_table

    return None if path is None else open_table(path)


def kept(stage: "Stage") -> "Artifact":
    """A stage's artifact beside the one that a verb is asked for: made only if it is not there or stale."""
    from tprune.pipeline import settle
    from tprune.progress import tell

    return settle(stage, tell)


def logs_of(out: Path) -> Path:
    """Where the TensorBoard logs of what is made at `out` go."""
    return out.with_name(out.name + ".logs")
