"""The command: one verb a stage; parse, load, call, print one line with the artifact's path.

Heavy imports stand inside the verbs, so that `--help` is instant.
"""

import sys
from io import BufferedIOBase
from pathlib import Path
from typing import Annotated, cast

import typer

from tprune import delivery_verbs, entry, options, settings, verbs
from tprune.errors import InputError
from tprune.progress import tell

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # "[extra]" is text
    help="Structured pruning of Transformer translation models, from corpus to phone.",
)

for _verb in (*verbs.VERBS, *delivery_verbs.VERBS):
    app.command()(_verb)


@app.command()
def run(
    recipe: Annotated[str, typer.Argument(help="quickstart, multi30k, … or a .toml file.")],
    out: Annotated[Path | None, typer.Option("--out", help="The run's directory; runs/RECIPE by default.")] = None,
    overrides: options.Overrides = None,
    until: Annotated[str, typer.Option(help=f"Stop after this stage: {', '.join(settings.STAGES)}.")] = "report",
) -> None:
    """The whole pipeline, resumable; a second call redoes only what is stale."""
    from tprune import pipeline

    chosen = settings.load(recipe, overrides or [])
    made = pipeline.run(chosen, out or Path("runs") / chosen.name, tell, until)
    if made.kind in ("results", "report"):  # else rows that are there may be of earlier settings
        options.print_rows(made.path.parent / "results")
    options.done(made.path)


@app.command("settings")
def print_settings(
    recipe: Annotated[
        str | None, typer.Argument(help="quickstart, multi30k, … or a .toml file; defaults only.")
    ] = None,
    overrides: options.Overrides = None,
) -> None:
    """Print every setting of a recipe, defaults too, as a recipe: what --set knows, and what it would be."""
    typer.echo(settings.as_toml(options.settings_of(recipe, overrides)), nl=False)


@app.command()
def report(
    source: Annotated[Path, typer.Argument(help="A run's directory, a results artifact, or a folder of result files.")],
    json: Annotated[bool, typer.Option("--json", help="Print the rows.")] = False,
    readme: Annotated[
        bool, typer.Option("--readme", help="Print the tables of README and docs/benchmarks.md.")
    ] = False,
    into: Annotated[
        list[Path] | None,
        typer.Option(help="With --readme: write those that this file has markers for between them; may be repeated."),
    ] = None,
    page: Annotated[
        Path | None, typer.Option(help="Draw the rows: write the report's page and pictures there.")
    ] = None,
) -> None:
    """Print the rows of a run or of result files, or the tables of README and docs/benchmarks.md, or draw them."""
    from tprune.benchmarks import record
    from tprune.benchmarks.readme import readme_tables, update_readme

    if into and not readme:
        raise InputError("nothing to write into a file", where="--into", fix="give --readme too, or leave it out")
    folder = source / "results" if (source / "results").is_dir() and not list(source.glob("*.json")) else source
    if json:
        import json as writer

        typer.echo(writer.dumps([row.model_dump(mode="json", by_alias=True) for row in record.read_all(folder)]))
    elif page is not None:
        from tprune.benchmarks.report import write_report

        options.done(write_report(page, record.read_all(folder)))
    elif readme and into:
        for text in into:
            update_readme(text, folder)
            options.done(text)
    elif readme:
        typer.echo("\n\n".join(readme_tables(folder).values()))
    else:
        options.print_rows(folder)
        if (source / "report" / "index.html").is_file():
            options.done(source / "report" / "index.html")


@app.command()
def translate(
    bundle: options.Folder,
    beam: Annotated[int, typer.Option(help="Beam size; 1 is greedy.")] = 1,
    threads: Annotated[int, typer.Option(help="Threads of the engine.")] = 1,
    batch: Annotated[int | None, typer.Option(help="Sentences at a time; 8 by default, 1 in int8.")] = None,
) -> None:
    """Translate the sentences on standard input, one a line.

    A line that cannot be translated becomes an empty one and is named on standard error; the exit code is then 1. One
    whose translation was cut off at its greatest length is named there too.
    """
    from tprune.export.translation import Refused, Translator, Unfinished, translate_lines

    translator = Translator(bundle, beams=beam, threads=threads, batch=batch)
    refused, cut, lines, output = 0, 0, 0, sys.stdout.buffer
    for found in translate_lines(translator, cast(BufferedIOBase, sys.stdin.buffer)):
        lines += 1
        if isinstance(found, Refused):
            refused += 1
            entry.complain(f"line {found.line}: {found.reason}")
        elif isinstance(found, Unfinished):
            cut += 1
            tell(f"warning: line {lines}: the translation was cut off at its greatest length")
        output.write(b"\n" if isinstance(found, Refused) else f"{found}\n".encode())
        output.flush()
    if cut:
        tell(
            f"{cut} of {lines} translations cut off: export with a larger export.length_factor, export.length_extra or "
            "export.max_target"
        )
    if refused:
        tell(f"{refused} of {lines} lines not translated; their lines in the output are empty")
        raise typer.Exit(1)


@app.command()
def explain(
    bundle: options.Folder,
    threads: Annotated[int, typer.Option(help="Threads of the engine.")] = 1,
    json: Annotated[bool, typer.Option("--json", help="Print the rows.")] = False,
) -> None:
    """Which operators a bundle runs, where and in which precision, and what each costs on this machine."""
    from rich.console import Console

    from tprune.export import explain as room

    parts = room.explain(bundle, threads)
    if json:
        import json as writer

        typer.echo(writer.dumps(room.as_data(parts)))
        return
    for part in parts:
        Console().print(room.table(part))


@app.command()
def convert(
    model: Annotated[
        str, typer.Argument(help="Directory or hub name of a Marian, BART, mBART, M2M100/NLLB or tprune model.")
    ],
    out: Annotated[Path, typer.Argument(help="Directory to write.")],
    languages: Annotated[
        tuple[str, str] | None,
        typer.Option(help="Source and target language of a multilingual model, in its own codes."),
    ] = None,
    force: options.Force = False,
) -> None:
    """Convert a Hugging Face translation model, logits unchanged; one of tprune's is copied."""
    from tprune.model.convert import convert as convert_model

    options.done(convert_model(model, out, force=force, languages=languages).path)


def main() -> None:
    """Run the command."""
    entry.call(app)


if __name__ == "__main__":
    main()
