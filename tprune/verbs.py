"""The verbs of the command line that run one stage each, on artifacts."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tprune import settings
from tprune.errors import InputError

if TYPE_CHECKING:
    from tprune.artifact import Artifact
    from tprune.config import Config, Target

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
    plan: Annotated[Path | None, typer.Option(help="Use this plan.")] = None,
    score: Annotated[str, typer.Option(help="shs, magnitude, taylor or random.")] = "magnitude",
    planner: Annotated[str, typer.Option(help="global or uniform.")] = "global",
    drop_encoder_layers: int = 0,
    drop_decoder_layers: int = 0,
    grid: Annotated[int, typer.Option(help="Widths are multiples of this.")] = 8,
    hidden: Annotated[float | None, typer.Option(help="Share of the residual stream's dimensions that stays.")] = None,
    vocabulary: Annotated[int | None, typer.Option(help="Keep tokens that occur this often in the corpus.")] = None,
    analysis: Annotated[Path | None, typer.Option(help="BSSL's findings.")] = None,
    corpus: Annotated[Path | None, typer.Option(help="Calibration text (taylor, hidden, vocabulary).")] = None,
    seed: int = 1,
    force: Force = False,
) -> None:
    """Cut units out of a model, by a budget or by a plan.

    Writes OUT and OUT.plan; for a narrower residual stream OUT.narrow, of which the plan is; where the vocabulary
    changes OUT.corpus and OUT.dense, the corpus and the uncut model in the new token ids, for `recover`.
    """
    from tprune import artifact, stages, trim
    from tprune.sparsity import plan as plans

    source, text = artifact.read(model, "model"), _maybe(corpus, "corpus")
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
            hidden=hidden,
            vocabulary=vocabulary,
        )
        whole = None
        if text is not None and trim.turns(source, target):
            whole, source = source, trim.stream(out.with_name(out.name + ".narrow"), source, text, target).make(force)
        chosen = stages.plan(
            out.with_name(out.name + ".plan"), source, _maybe(analysis, "analysis"), text, target, seed, whole
        ).make(force)
    if plans.trims(plans.read(chosen.path)):
        uncut = artifact.read(model, "model")
        stages.prune(out.with_name(out.name + ".dense"), uncut, chosen, tokens_only=True).make(force)
        if text is not None:
            trim.corpus(out.with_name(out.name + ".corpus"), text, source, chosen).make(force)
    done(stages.prune(out, source, chosen).make(force).path)


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
    from tprune import artifact, delivery

    chosen = _settings(recipe, overrides)
    given = [("dense", artifact.read(dense)), *((path.name, artifact.read(path)) for path in pruned)]
    entries = {delivery.entry_of(name, made): made for name, made in given}
    made = delivery.bench(out, chosen.name, entries, artifact.read(corpus, "corpus"), chosen.bench).make(force)
    print_rows(made.path)
    done(made.path)


def print_rows(folder: Path) -> None:
    """Print the result rows of a folder as tables."""
    from tprune.benchmarks import record
    from tprune.benchmarks.result_table import rows_to_markdown

    if folder.is_dir():
        typer.echo(rows_to_markdown(record.read_all(folder)))


def done(path: Path) -> None:
    """Print the one line a verb ends with: where its artifact is."""
    typer.echo(str(path))


def _settings(recipe: str | None, overrides: list[str] | None) -> "Config":
    return settings.load(recipe, overrides or []) if recipe else settings.defaults(overrides or [])


def _target(name: str, budgets: dict[str, float | None], planner: str, **rest: Any) -> "Target":
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


VERBS = (corpus, train, analyze, sparsify, prune, recover, shortlist, export, bench)
