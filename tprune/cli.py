"""The command: one verb a stage; parse, load, call, print one line with the artifact's path.

Heavy imports stand inside the verbs, so that `--help` is instant.
"""

import logging
import os
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tprune import config as settings
from tprune.errors import InputError, TpruneError
from tprune.progress import console

if TYPE_CHECKING:
    from tprune.artifact import Artifact

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Structured pruning of Transformer translation models, from corpus to phone.",
)

Out = Annotated[Path, typer.Option("--out", help="Directory to write.")]
Force = Annotated[bool, typer.Option("--force", help="Replace what is there.")]
Recipe = Annotated[str | None, typer.Option("--recipe", help="A recipe's name or file; the defaults without one.")]
Overrides = Annotated[list[str] | None, typer.Option("--set", help="section.key=value; may be repeated.")]
Folder = Annotated[Path, typer.Argument(help="An artifact's directory.")]


@app.command()
def run(
    recipe: Annotated[str, typer.Argument(help="quickstart, multi30k, … or a .toml file.")],
    out: Annotated[Path | None, typer.Option("--out", help="The run's directory; runs/RECIPE by default.")] = None,
    overrides: Overrides = None,
    until: Annotated[str, typer.Option(help="Stop after this stage.")] = "report",
) -> None:
    """The whole pipeline, resumable; a second call redoes only what is stale."""
    from tprune import pipeline

    chosen = settings.load(recipe, overrides or [])
    made = pipeline.run(chosen, out or Path("runs") / chosen.name, console.print, until)
    _print_rows(made.path.parent / "results")
    _done(made.path)


@app.command()
def corpus(
    out: Out,
    recipe: Recipe = None,
    overrides: Overrides = None,
    force: Force = False,
    tokenizer: Annotated[Path | None, typer.Option(help="Use this model's tokenizer.")] = None,
) -> None:
    """Check and tokenize parallel text."""
    from tprune import stages

    _done(stages.corpus(out, _settings(recipe, overrides).text, tokenizer).make(force).path)


@app.command()
def train(corpus: Folder, out: Out, recipe: Recipe = None, overrides: Overrides = None, force: Force = False) -> None:
    """Train the dense model."""
    from tprune import artifact, stages

    chosen = _settings(recipe, overrides)
    text = artifact.read(corpus, "corpus")
    _done(stages.train(out, text, chosen.model, chosen.learn, _logs(out)).make(force).path)


@app.command()
def analyze(
    model: Folder, corpus: Folder, out: Out, recipe: Recipe = None, overrides: Overrides = None, force: Force = False
) -> None:
    """BSSL: which component becomes sparse, on which axis, and how much each one matters."""
    from tprune import artifact, stages
    from tprune.benchmarks.result_table import sparsity_table

    chosen = _settings(recipe, overrides).analyze
    made = stages.analyze(out, artifact.read(model, "model"), artifact.read(corpus, "corpus"), chosen, _logs(out)).make(
        force
    )
    typer.echo(sparsity_table(artifact.read_json(made.path / "analysis.json")).markdown())
    _done(made.path)


@app.command()
def sparsify(
    model: Folder,
    analysis: Folder,
    corpus: Folder,
    out: Out,
    recipe: Recipe = None,
    overrides: Overrides = None,
    force: Force = False,
) -> None:
    """Train with the Structured Hoyer Square penalty, so that lines die."""
    from tprune import artifact, stages

    made = stages.shs(
        out,
        artifact.read(model, "model"),
        artifact.read(analysis, "analysis"),
        artifact.read(corpus, "corpus"),
        _settings(recipe, overrides).shs,
        _logs(out),
    ).make(force)
    _done(made.path)


@app.command()
def prune(
    model: Folder,
    out: Out,
    parameters: Annotated[float | None, typer.Option(help="Share of the parameters that may stay.")] = None,
    flops: Annotated[float | None, typer.Option(help="Share of the FLOPs that may stay.")] = None,
    threshold: Annotated[float | None, typer.Option(help="Drop units under this share of their mean norm.")] = None,
    plan: Annotated[Path | None, typer.Option(help="Use this plan.")] = None,
    score: Annotated[str, typer.Option(help="shs, magnitude, taylor or random.")] = "magnitude",
    planner: Annotated[str, typer.Option(help="global or uniform.")] = "global",
    drop_encoder_layers: int = 0,
    drop_decoder_layers: int = 0,
    grid: Annotated[int, typer.Option(help="Widths are multiples of this.")] = 8,
    analysis: Annotated[Path | None, typer.Option(help="BSSL's findings.")] = None,
    corpus: Annotated[Path | None, typer.Option(help="Calibration text (taylor).")] = None,
    seed: int = 1,
    force: Force = False,
) -> None:
    """Cut units out of a model, by a budget or by a plan. Writes OUT and OUT.plan."""
    from tprune import artifact, stages

    source = artifact.read(model, "model")
    if plan is not None:
        chosen = artifact.read(plan, "plan")
    else:
        target = _target(
            out.name,
            {"parameters": parameters, "flops": flops, "threshold": threshold},
            planner,
            score=score,
            drop_encoder_layers=drop_encoder_layers,
            drop_decoder_layers=drop_decoder_layers,
            grid=grid,
        )
        chosen = stages.plan(
            out.with_name(out.name + ".plan"),
            source,
            _maybe(analysis, "analysis"),
            _maybe(corpus, "corpus"),
            target,
            seed,
        ).make(force)
    _done(stages.prune(out, source, chosen).make(force).path)


@app.command()
def recover(
    model: Folder,
    teacher: Folder,
    corpus: Folder,
    out: Out,
    recipe: Recipe = None,
    overrides: Overrides = None,
    force: Force = False,
) -> None:
    """Train a pruned model with the dense one as its teacher."""
    from tprune import artifact, stages

    made = stages.recover(
        out,
        artifact.read(model, "model"),
        artifact.read(teacher, "model"),
        artifact.read(corpus, "corpus"),
        _settings(recipe, overrides).recover,
        _logs(out),
    ).make(force)
    _done(made.path)


@app.command()
def export(
    model: Folder,
    out: Out,
    engine: Annotated[str, typer.Option(help="onnxruntime or executorch.")] = "onnxruntime",
    corpus: Annotated[Path | None, typer.Option(help="Its validation sentences are used for the parity check.")] = None,
    recipe: Recipe = None,
    overrides: Overrides = None,
    force: Force = False,
) -> None:
    """Write a bundle for an engine and check it against the model."""
    from tprune import artifact, stages

    made = stages.bundle(
        out, artifact.read(model, "model"), engine, _maybe(corpus, "corpus"), _settings(recipe, overrides).export
    )
    _done(made.make(force).path)


@app.command()
def bench(
    dense: Annotated[Path, typer.Argument(help="The dense model's directory or bundle.")],
    pruned: Annotated[list[Path], typer.Argument(help="Pruned models, or their bundles for the same engine.")],
    corpus: Annotated[Path, typer.Option(help="Its test splits are translated.")],
    out: Out,
    recipe: Recipe = None,
    overrides: Overrides = None,
    force: Force = False,
) -> None:
    """Latency and BLEU of dense and pruned models, in turn, on this machine."""
    from tprune import artifact, stages

    chosen = _settings(recipe, overrides)
    entries = {
        (stages.engine_of(made := artifact.read(path)), name): made
        for name, path in (("dense", dense), *((path.name, path) for path in pruned))
    }
    done = stages.bench(out, chosen.name, entries, artifact.read(corpus, "corpus"), chosen.bench).make(force)
    _print_rows(done.path)
    _done(done.path)


@app.command()
def report(
    source: Annotated[Path, typer.Argument(help="A run's directory, a results artifact, or a folder of result files.")],
    json: Annotated[bool, typer.Option("--json", help="Print the rows.")] = False,
    readme: Annotated[bool, typer.Option("--readme", help="Print README's tables.")] = False,
) -> None:
    """Print the rows of a run or of result files, or README's tables."""
    from tprune.benchmarks import record
    from tprune.benchmarks.readme import readme_tables

    folder = source / "results" if (source / "results").is_dir() and not list(source.glob("*.json")) else source
    if json:
        import json as writer

        typer.echo(writer.dumps([row.model_dump(mode="json", by_alias=True) for row in record.read_all(folder)]))
    elif readme:
        typer.echo(readme_tables(folder))
    else:
        _print_rows(folder)
        if (source / "report" / "index.html").is_file():
            _done(source / "report" / "index.html")


@app.command()
def translate(
    bundle: Folder,
    beam: Annotated[int, typer.Option(help="Beam size; 1 is greedy.")] = 1,
    threads: Annotated[int, typer.Option(help="Threads of the engine.")] = 1,
) -> None:
    """Translate the sentences on standard input, one a line."""
    from tprune.export.translation import Translator, translate_lines

    failed = 0
    for found in translate_lines(Translator(bundle, beams=beam, threads=threads), sys.stdin.buffer):
        failed += isinstance(found, TpruneError)
        if isinstance(found, TpruneError):
            _complain(found)
        typer.echo("" if isinstance(found, TpruneError) else found)
        sys.stdout.flush()
    if failed:
        raise typer.Exit(1)


@app.command()
def convert(
    model: Annotated[str, typer.Argument(help="Directory or hub name of a Marian, BART, mBART or M2M100/NLLB model.")],
    out: Annotated[Path, typer.Argument(help="Directory to write.")],
    languages: Annotated[
        tuple[str, str] | None,
        typer.Option(help="Source and target language of a multilingual model, in its own codes."),
    ] = None,
    force: Force = False,
) -> None:
    """Convert a Hugging Face translation model, logits unchanged."""
    from tprune.model.convert import convert as convert_model

    _done(convert_model(model, out, force=force, languages=languages).path)


def main() -> None:
    """Run the command; a TpruneError is one readable line and exit code 1."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    _quiet()
    try:
        app()
    except TpruneError as error:
        _complain(error)
        sys.exit(1)
    except KeyboardInterrupt:
        console.print("stopped; the same command goes on from here")
        sys.exit(130)


def _complain(error: TpruneError) -> None:
    console.print(f"error: {error}", style="red", soft_wrap=True, markup=False)


def _settings(recipe: str | None, overrides: list[str] | None) -> settings.Config:
    return settings.load(recipe, overrides or []) if recipe else settings.defaults(overrides or [])


def _target(name: str, budgets: dict[str, float | None], planner: str, **rest: object) -> settings.Target:
    given = {key: value for key, value in budgets.items() if value is not None}
    if len(given) != 1:
        raise InputError(
            "one budget is needed",
            got=", ".join(given) or "none",
            wanted="--parameters, --flops or --threshold (or --plan)",
            fix="give exactly one",
        )
    ((key, value),) = given.items()
    budget = (
        {"planner": "threshold", "threshold": value}
        if key == "threshold"
        else {"planner": planner, "budget": key, "keep": value}
    )
    return settings.target(name=name, **budget, **rest)


def _maybe(path: Path | None, kind: str) -> "Artifact | None":
    from tprune import artifact

    return None if path is None else artifact.read(path, kind)


def _logs(out: Path) -> Path:
    return out.with_name(out.name + ".logs")


def _print_rows(folder: Path) -> None:
    from tprune.benchmarks import record
    from tprune.benchmarks.result_table import rows_to_markdown

    if folder.is_dir():
        typer.echo(rows_to_markdown(record.read_all(folder)))


def _done(path: Path) -> None:
    typer.echo(str(path))


def _quiet() -> None:
    """Keep libraries' advice to developers off the user's terminal."""
    warnings.filterwarnings("ignore", module=r"(torch|torchao|executorch|transformers|onnxscript)(\..*)?$")
    for name in ("torchao", "torch.utils._pytree", "transformers.trainer"):
        logging.getLogger(name).setLevel(logging.ERROR)
