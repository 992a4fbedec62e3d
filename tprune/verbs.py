"""The verbs of the command line that run one stage each, on artifacts."""

from pathlib import Path
from typing import Annotated, get_args

import typer

from tprune import settings
from tprune.config import PENALTY_NORMS, Criterion, Target
from tprune.errors import BudgetError, InputError
from tprune.json_file import read_json
from tprune.options import Folder, Force, Out, Overrides, Recipe, done, kept, logs_of, maybe, maybe_table, settings_of
from tprune.progress import tell


def corpus(
    out: Out,
    recipe: Recipe = None,
    overrides: Overrides = None,
    force: Force = False,
    tokenizer: Annotated[Path | None, typer.Option(help="Use this model's tokenizer.")] = None,
) -> None:
    """Check and tokenize parallel text."""
    from tprune import stages

    done(stages.corpus(out, settings_of(recipe, overrides).text, tokenizer).make(force).path)


def train(corpus: Folder, out: Out, recipe: Recipe = None, overrides: Overrides = None, force: Force = False) -> None:
    """Train the dense model."""
    from tprune import artifact, stages

    chosen = settings_of(recipe, overrides)
    text = artifact.read(corpus, "corpus")
    done(stages.train(out, text, chosen.model, chosen.learn, logs_of(out)).make(force).path)


def analyze(
    model: Folder, corpus: Folder, out: Out, recipe: Recipe = None, overrides: Overrides = None, force: Force = False
) -> None:
    """BSSL: which component becomes sparse, on which axis, and how much each one matters."""
    from tprune import artifact, stages
    from tprune.benchmarks.result_table import sparsity_table

    chosen, text = settings_of(recipe, overrides).analyze, artifact.read(corpus, "corpus")
    made = stages.analyze(out, artifact.read(model, "model"), text, chosen, logs_of(out)).make(force)
    typer.echo(sparsity_table(read_json(made.path / "analysis.json")).markdown())
    done(made.path)


def sparsify(
    model: Folder,
    analysis: Folder,
    corpus: Folder,
    out: Out,
    recipe: Recipe = None,
    overrides: Overrides = None,
    device_table: Annotated[
        Path | None, typer.Option(help="Push lines harder that take much time by this latency table.")
    ] = None,
    force: Force = False,
) -> None:
    """Train with the Structured Hoyer Square penalty, so that lines die."""
    from tprune import artifact, stages

    made = stages.shs(
        out,
        artifact.read(model, "model"),
        artifact.read(analysis, "analysis"),
        artifact.read(corpus, "corpus"),
        settings_of(recipe, overrides).shs,
        logs_of(out),
        table=maybe_table(device_table),
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
    device_table: Annotated[Path | None, typer.Option(help="What `tprune table` measured there.")] = None,
    plan: Annotated[Path | None, typer.Option(help="Use this plan.")] = None,
    score: Annotated[str, typer.Option(help=f"{', '.join(get_args(Criterion))}.")] = "magnitude",
    planner: Annotated[str, typer.Option(help="global or uniform.")] = "global",
    drop_encoder_layers: int = 0,
    drop_decoder_layers: int = 0,
    grid: Annotated[int, typer.Option(help="Widths are multiples of this.")] = 8,
    hidden: Annotated[float | None, typer.Option(help="Share of the residual stream's dimensions that stays.")] = None,
    vocabulary: Annotated[int | None, typer.Option(help="Keep tokens that occur this often in the corpus.")] = None,
    analysis: Annotated[Path | None, typer.Option(help="BSSL's findings.")] = None,
    corpus: Annotated[Path | None, typer.Option(help="Text, for scores, compensation, hidden, vocabulary.")] = None,
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
    latter, recover with the teacher OUT.trimmed/dense on OUT.trimmed/corpus, which have the new token ids. What lies
    in OUT.plan and OUT.trimmed is kept if it is current, else made again.
    """
    from tprune import artifact, rounds, stages, trim

    artifact.require_free(out, force)
    base = source = artifact.read(model, "model")
    if score in PENALTY_NORMS and (source.manifest["config"].get("penalty") or {}).get("kind") != score:
        tell(f"{model}: `tprune sparsify` has not trained it with {score}: the score says little more than magnitude")
    text = maybe(corpus, "corpus")
    if compensate and text is None:
        raise InputError(
            "compensation needs calibration text",
            got="--compensate without a corpus",
            fix="give --corpus, or leave --compensate out",
        )
    default: bool = Target.model_fields["compensate"].default
    fits = text is not None and (default if compensate is None else compensate)
    amounts = {"parameters": parameters, "flops": flops, "threshold": threshold}
    amounts |= {"speedup": speedup, "milliseconds": milliseconds}
    if plan is not None:
        cuts: dict[str, object] = {**amounts, "device-table": device_table, "hidden": hidden, "vocabulary": vocabulary}
        if more := [f"--{name}" for name, value in cuts.items() if value is not None]:
            raise InputError("a plan says all that is cut", got=f"--plan and {', '.join(more)}", fix="leave one out")
        chosen = artifact.read(plan, "plan")
    else:
        target = settings.budgeted(
            out.name,
            amounts,
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
            made = trim.prepare(target, as_is, out.with_name(out.name + ".trimmed"), kept, seed)
            base, text = made.base, made.text
        planned = stages.plan(
            out.with_name(out.name + ".plan"),
            base,
            maybe(analysis, "analysis"),
            text,
            rounds.share_of(target, 1, source.path, base.path),
            seed,
            table=maybe_table(device_table),
            dense=source if device_table else None,
        )
        try:
            chosen = kept(planned)
        except BudgetError as error:
            raise rounds.too_small(error, target, source.path, words=rounds.FLAGS) from None
    done(stages.prune(out, base, chosen, text if fits else None, seed).make(force).path)


def distill(
    model: Folder, corpus: Folder, out: Out, recipe: Recipe = None, overrides: Overrides = None, force: Force = False
) -> None:
    """Translate the training sources with a model: a corpus to recover on."""
    from tprune import artifact, recovery
    from tprune.learn.distill import REPORT

    teacher, text = artifact.read(model, "model"), artifact.read(corpus, "corpus")
    made = recovery.distill(out, teacher, text, settings_of(recipe, overrides).distill).make(force)
    found = read_json(made.path / REPORT)
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
        settings_of(recipe, overrides).recovery,
        logs_of(out),
    ).make(force)
    done(made.path)


VERBS = (corpus, train, analyze, sparsify, prune, distill, recover)
