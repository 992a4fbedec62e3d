"""The verbs of the command line that run one stage each, on artifacts."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, get_args

import typer

from tprune import settings
from tprune.config import Criterion, Target
from tprune.errors import InputError

if TYPE_CHECKING:
    from tprune.artifact import Artifact
    from tprune.config import Config

Out = Annotated[Path, typer.Option("--out", help="Directory to write.")]
Force = Annotated[bool, typer.Option("--force", help="Replace what is there.")]
Recipe = Annotated[str | None, typer.Option("--recipe", help="A recipe's name or file; the defaults without one.")]
Overrides = Annotated[list[str] | None, typer.Option("--set", help="section.key=value; may be repeated.")]
Folder = Annotated[Path, typer.Argument(help="An artifact's directory.")]


def corpus(
    out: Out,
    recipe: Recipe = None,
    overrides: Overrides = None,
    force: Force = False,
    tokenizer: Annotated[Path | None, typer.Option(help="Use this model's tokenizer.")] = None,
) -> None:
    """Check and tokenize parallel text."""
    from tprune import stages

    done(stages.corpus(out, _settings(recipe, overrides).text, tokenizer).make(force).path)


def train(corpus: Folder, out: Out, recipe: Recipe = None, overrides: Overrides = None, force: Force = False) -> None:
    """Train the dense model."""
    from tprune import artifact, stages

    chosen = _settings(recipe, overrides)
    text = artifact.read(corpus, "corpus")
    done(stages.train(out, text, chosen.model, chosen.learn, _logs(out)).make(force).path)


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
    done(made.path)


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
    done(made.path)


def prune(
    model: Folder,
    out: Out,
    parameters: Annotated[float | None, typer.Option(help="Share of the parameters that may stay.")] = None,
    flops: Annotated[float | None, typer.Option(help="Share of the FLOPs that may stay.")] = None,
    threshold: Annotated[float | None, typer.Option(help="Drop units under this share of their mean norm.")] = None,
    speedup: Annotated[float | None, typer.Option(help="Speedup over MODEL, by the device's table.")] = None,
    milliseconds: Annotated[float | None, typer.Option(help="Time of a sentence, by the device's table.")] = None,
    device_table: Annotated[Path | None, typer.Option(help="What `tprune table` measured on the device.")] = None,
    plan: Annotated[Path | None, typer.Option(help="Use this plan.")] = None,
    score: Annotated[str, typer.Option(help=f"{', '.join(get_args(Criterion))}.")] = "magnitude",
    planner: Annotated[str, typer.Option(help="global or uniform.")] = "global",
    drop_encoder_layers: int = 0,
    drop_decoder_layers: int = 0,
    grid: Annotated[int, typer.Option(help="Widths are multiples of this.")] = 8,
    hidden: Annotated[float | None, typer.Option(help="Share of the residual stream's dimensions that stays.")] = None,
    vocabulary: Annotated[int | None, typer.Option(help="Keep tokens that occur this often in the corpus.")] = None,
    analysis: Annotated[Path | None, typer.Option(help="BSSL's findings.")] = None,
    corpus: Annotated[Path | None, typer.Option(help="Text, for scores, compensation, hidden and vocabulary.")] = None,
    compensate: Annotated[
        bool | None,
        typer.Option(
            help="Fit the kept lines to what the dropped ones did, on training text; as a rule where --corpus is given."
        ),
    ] = None,
    seed: int = 1,
    force: Force = False,
) -> None:
    """Cut units out of a model, by a budget or by a plan.

    Writes OUT and OUT.plan; with --hidden or --vocabulary also OUT.trimmed, of whose model the plan is: after the
    latter, recover with the teacher OUT.trimmed/dense on OUT.trimmed/corpus, which have the new token ids.
    """
    from tprune import artifact, rounds, stages, trim

    source, text = artifact.read(model, "model"), _maybe(corpus, "corpus")
    if compensate and text is None:
        raise InputError(
            "compensation needs calibration text",
            got="--compensate without a corpus",
            fix="give --corpus, or leave --compensate out",
        )
    default: bool = Target.model_fields["compensate"].default
    fits = text is not None and (default if compensate is None else compensate)
    if plan is not None:
        chosen = artifact.read(plan, "plan")
    else:
        target = settings.budgeted(
            out.name,
            {"parameters": parameters, "flops": flops, "threshold": threshold}
            | {"speedup": speedup, "milliseconds": milliseconds},
            planner,
            device_table.name if device_table else None,
            score=score,
            drop_encoder_layers=drop_encoder_layers,
            drop_decoder_layers=drop_decoder_layers,
            grid=grid,
            hidden=hidden,
            vocabulary=vocabulary,
            compensate=fits,
        )
        if trim.trims(target):
            if text is None:
                raise InputError("no corpus", where="--hidden, --vocabulary", fix="give a corpus with --corpus")
            as_is = trim.Trimmed(source, source, text, text)
            made = trim.prepare(target, as_is, out.with_name(out.name + ".trimmed"), lambda stage: stage.make(force))
            target = rounds.share_of(target, 1, source.path, made.base.path)
            source, text = made.base, made.text
        chosen = stages.plan(
            out.with_name(out.name + ".plan"),
            source,
            _maybe(analysis, "analysis"),
            text,
            target,
            seed,
            table=_maybe(device_table, "latency-table"),
        ).make(force)
    done(stages.prune(out, source, chosen, text if fits else None, seed=seed).make(force).path)


def distill(
    model: Folder, corpus: Folder, out: Out, recipe: Recipe = None, overrides: Overrides = None, force: Force = False
) -> None:
    """Translate the training sources with a model: a corpus to recover on."""
    from tprune import artifact, recovery
    from tprune.learn.distill import REPORT

    teacher, text = artifact.read(model, "model"), artifact.read(corpus, "corpus")
    made = recovery.distill(out, teacher, text, _settings(recipe, overrides).distill).make(force)
    found = artifact.read_json(made.path / REPORT)
    typer.echo(
        f"{found['pairs']} sources translated, {found['same']} as in the corpus; {found['empty']} empty and "
        f"{found['unfinished']} unfinished translations replaced by the original; {found['written']} pairs"
    )
    done(made.path)


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
    from tprune import artifact, recovery

    made = recovery.recover(
        out,
        artifact.read(model, "model"),
        artifact.read(teacher, "model"),
        artifact.read(corpus, "corpus"),
        _settings(recipe, overrides).recovery,
        _logs(out),
    ).make(force)
    done(made.path)


def shortlist(
    corpus: Folder, out: Out, recipe: Recipe = None, overrides: Overrides = None, force: Force = False
) -> None:
    """Learn the target tokens worth computing for each source token, for `export --shortlist`."""
    from tprune import artifact, delivery
    from tprune.export.lexicon import COVERAGE

    text = artifact.read(corpus, "corpus")
    made = delivery.shortlist(out, text, _settings(recipe, overrides).shortlist).make(force)
    found = artifact.read_json(made.path / COVERAGE)
    typer.echo(
        f"of the validation text: {found['tokens']:.1%} of the target tokens and {found['sentences']:.1%} of the "
        f"sentences covered by {found['candidates']:.0f} candidates a sentence"
    )
    done(made.path)


def export(
    model: Folder,
    out: Out,
    engine: Annotated[str, typer.Option(help="onnxruntime or executorch.")] = "onnxruntime",
    precision: Annotated[str, typer.Option(help="fp32, int8 or, for ONNX Runtime, int8-block.")] = "fp32",
    corpus: Annotated[Path | None, typer.Option(help="Its validation sentences are used for the parity check.")] = None,
    shortlist: Annotated[Path | None, typer.Option(help="Compute the logits of its candidates only.")] = None,
    recipe: Recipe = None,
    overrides: Overrides = None,
    force: Force = False,
) -> None:
    """Write a bundle for an engine and check it against the model."""
    from tprune import artifact, delivery

    chosen, text = _settings(recipe, overrides).export, _maybe(corpus, "corpus")
    few = _maybe(shortlist, "shortlist")
    done(delivery.bundle(out, artifact.read(model, "model"), engine, precision, text, chosen, few).make(force).path)


def table(
    out: Annotated[Path, typer.Argument(help="Directory to write.")],
    like: Annotated[Path, typer.Option(help="The largest model that the table has to predict.")],
    engine: Annotated[str, typer.Option(help="onnxruntime or executorch.")] = "onnxruntime",
    precision: Annotated[str, typer.Option(help="fp32, int8 or, for ONNX Runtime, int8-block.")] = "fp32",
    threads: Annotated[int, typer.Option(help="Threads of the engine.")] = 1,
    corpus: Annotated[Path | None, typer.Option(help="Its validation sentences tell the lengths.")] = None,
    recipe: Recipe = None,
    overrides: Overrides = None,
    force: Force = False,
) -> None:
    """Measure what each component of a model costs on this machine, for `prune --speedup`."""
    from tprune import artifact, delivery

    given = [f"table.engine={engine}", f"table.precision={precision}", f"table.threads={threads}"]
    chosen = _settings(recipe, [*given, *(overrides or [])]).table
    done(delivery.table(out, artifact.read(like, "model"), _maybe(corpus, "corpus"), chosen).make(force).path)


def bench(
    dense: Annotated[Path, typer.Argument(help="The dense model's directory or bundle.")],
    pruned: Annotated[list[Path], typer.Argument(help="Pruned models, or their bundles for the same engine.")],
    corpus: Annotated[Path, typer.Option(help="Its test splits are translated.")],
    out: Out,
    device: Annotated[
        list[str] | None,
        typer.Option(help="Run bundles there instead: local, adb[:SERIAL] or ssh:HOST; may be repeated."),
    ] = None,
    sustained: Annotated[
        float | None, typer.Option(help="Run each model for so many minutes besides, on each device.")
    ] = None,
    recipe: Recipe = None,
    overrides: Overrides = None,
    force: Force = False,
) -> None:
    """Latency and BLEU of dense and pruned models, in turn, on this machine or on devices."""
    from tprune import artifact, delivery

    longer = [] if sustained is None else [f"device.sustained_minutes={sustained}"]
    chosen, text = _settings(recipe, [*(overrides or []), *longer]), artifact.read(corpus, "corpus")
    kind = "bundle" if device else None
    given = [("dense", artifact.read(dense, kind)), *((path.name, artifact.read(path, kind)) for path in pruned)]
    entries = {delivery.entry_of(name, made): made for name, made in given}
    stage = (
        delivery.bench_devices(out, chosen.name, entries, text, chosen, device)
        if device
        else delivery.bench(out, chosen.name, entries, text, chosen.bench)
    )
    made = stage.make(force)
    print_rows(made.path)
    done(made.path)


def pack(
    bundle: Folder,
    corpus: Annotated[Path, typer.Option(help="Its test sentences go along.")],
    out: Out,
    abi: Annotated[str, typer.Option(help="x86_64 or aarch64.")] = "aarch64",
    recipe: Recipe = None,
    overrides: Overrides = None,
    force: Force = False,
) -> None:
    """Write what is pushed to a device for a bundle into one folder, to be started there by hand."""
    from tprune import artifact, delivery

    chosen = _settings(recipe, overrides).device
    done(delivery.pack(out, artifact.read(bundle, "bundle"), artifact.read(corpus, "corpus"), abi, chosen, force).path)


def devices(
    device: Annotated[list[str] | None, typer.Option(help="Look at this one besides, such as ssh:HOST.")] = None,
) -> None:
    """Phones and boards that can be reached, and what they are."""
    from tprune.android_runner import shelf

    for line in shelf.lines(device or []):
        typer.echo(line)


def print_rows(folder: Path) -> None:
    """Print the result rows of a folder as tables."""
    from tprune.benchmarks import record
    from tprune.benchmarks.ranking import ranking_tables
    from tprune.benchmarks.result_table import rows_to_markdown

    if folder.is_dir():
        rows = record.read_all(folder)
        typer.echo("\n\n".join([*(table.markdown() for table in ranking_tables(rows)), rows_to_markdown(rows)]))


def done(path: Path) -> None:
    """Print the one line a verb ends with: where its artifact is."""
    typer.echo(str(path))


def _settings(recipe: str | None, overrides: list[str] | None) -> "Config":
    return settings.load(recipe, overrides or []) if recipe else settings.defaults(overrides or [])


def _maybe(path: Path | None, kind: str) -> "Artifact | None":
    from tprune import artifact

    return None if path is None else artifact.read(path, kind)


def _logs(out: Path) -> Path:
    return out.with_name(out.name + ".logs")


VERBS = (
    corpus,
    train,
    analyze,
    sparsify,
    prune,
    distill,
    recover,
    shortlist,
    export,
    table,
    bench,
    pack,
    devices,
)
