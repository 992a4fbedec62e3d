"""The stages up to a pruned model: what each one reads, what it makes, from which settings.

`tprune run` and the single verbs of the command line run the same stages.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tprune import artifact
from tprune.artifact import Artifact
from tprune.config import Analyze, Architecture, Learn, Shs, Target, Text
from tprune.json_file import read_json, write_json
from tprune.section import resolved
from tprune.stage import Stage, stage

if TYPE_CHECKING:
    from tprune.model.shape import TPruneConfig
    from tprune.text.corpus import Corpus


def corpus(out: Path, text: Text, tokenizer: Path | None = None) -> Stage:
    """Checked, tokenized text."""
    from tprune.text import corpus as room

    inputs = room.inputs(text, tokenizer)
    return Stage(
        "corpus",
        out,
        artifact.fingerprint("corpus", inputs, {}),
        lambda force: room.prepare(text, out, tokenizer=tokenizer, force=force),
    )


def train(out: Path, text: Artifact, architecture: Architecture, learn: Learn, logs: Path | None) -> Stage:
    """The dense model."""

    def make(partial_out: Path) -> None:
        from transformers import set_seed

        from tprune.learn.training import fit
        from tprune.model.transformer import TPruneForConditionalGeneration
        from tprune.text import lengths
        from tprune.text.corpus import open_corpus

        opened = open_corpus(text)
        lengths.require_positions(text, architecture.max_positions)
        set_seed(architecture.seed)
        model = TPruneForConditionalGeneration(dense_shape(opened, architecture))
        fit(partial_out, model, opened, learn, logs)

    return stage(
        "dense", "model", out, {"model": resolved(architecture), "learn": resolved(learn)}, {"corpus": text}, make
    )


def dense_shape(text: "Corpus", architecture: Architecture) -> "TPruneConfig":
    """The dense model's configuration: a size, and the tokens of a text."""
    from tprune.model.shape import dense_config

    tokens = text.tokenizer
    return dense_config(
        vocab_size=tokens.vocabulary_size,
        pad_token_id=tokens.pad_id,
        eos_token_id=tokens.eos_id,
        decoder_start_token_id=tokens.decoder_start_id,
        **architecture.model_dump(exclude={"seed"}),
    )


def convert(out: Path, source: str, languages: tuple[str, str] | None) -> Stage:
    """A Hugging Face translation model as the dense model."""
    from tprune.model import convert as room

    inputs = room.inputs(source, languages)

    def make(force: bool) -> Artifact:
        return room.convert(source, out, force=force, languages=languages)

    return Stage("convert", out, artifact.fingerprint("model", inputs, {}), make)


def analyze(out: Path, model: Artifact, text: Artifact, settings: Analyze, logs: Path | None) -> Stage:
    """BSSL: sparse lines per component and axis, and sensitivity."""

    def make(partial_out: Path) -> None:
        from tprune import ranks
        from tprune.benchmarks import anatomy, pictures
        from tprune.learn.compatibility import open_for
        from tprune.learn.evaluate import greedy_bleu, token_loss
        from tprune.learn.trainer import fit
        from tprune.model import checkpoint
        from tprune.progress import narrate
        from tprune.sparsity import bssl

        regularized, scratch = checkpoint.load(model.path), partial_out / artifact.SCRATCH
        opened = open_for(text, model)
        train_pairs, valid = opened.split(opened.train), opened.split(opened.valid)
        shrink = bssl.BlockLasso(regularized, settings.weight)
        history = fit(regularized, train_pairs, valid, settings.learn, scratch, logs=logs, shrink=shrink)
        if ranks.is_follower():
            return  # what the first process measures is the same for all
        dense = checkpoint.load(model.path).to(regularized.device)

        def measure(candidate: Any) -> dict[str, float | None]:
            loss = token_loss(candidate, valid, settings.sentences)
            return {"loss": loss, "bleu": greedy_bleu(candidate, opened, settings.bleu_sentences)}

        with narrate("sensitivity") as progress:
            table = {
                "components": bssl.sparse_lines(regularized, settings.threshold),
                "dense": measure(dense),
                "sensitivity": bssl.sensitivity(dense, settings.shares, measure, scratch, progress),
            }
        write_json(partial_out / "analysis.json", table)
        pictures.heat_picture(anatomy.heat(anatomy.read_analysis(table))).savefig(partial_out / "heat_map.png")
        write_json(partial_out / "history.json", history)

    return stage("analysis", "analysis", out, resolved(settings), {"model": model, "corpus": text}, make)


def shs(
    out: Path,
    model: Artifact,
    analysis: Artifact,
    text: Artifact,
    settings: Shs,
    logs: Path | None,
    *,
    teacher: Artifact | None = None,
    table: Artifact | None = None,
    earlier: Sequence[Artifact] = (),
) -> Stage:
    """The model after training with the SHS penalty; without a teacher it is its own, as it was.

    With a latency table lines that take much time are pushed harder.
    """

    def make(partial_out: Path) -> None:
        from tprune.benchmarks import table as tables
        from tprune.learn.compatibility import open_for
        from tprune.learn.training import fit
        from tprune.model import checkpoint
        from tprune.sparsity import bssl, lines
        from tprune.sparsity.penalties import Decoupled

        dense = checkpoint.load(model.path)
        groups = lines.groups(dense.config, lines.WIDTH_KINDS)
        costs = tables.unit_costs(tables.read(table.path), dense.config) if table else None
        strength = bssl.strengths(groups, settings.penalty.weight, _findings(analysis, earlier, dense.config), costs)
        shrink = None if settings.penalty.kind == "none" else Decoupled(settings.penalty.kind, dense, groups, strength)
        wise = (teacher or model) if settings.learn.distill else None
        opened = open_for(text, *filter(None, (model, wise)))
        known = wise and checkpoint.load(wise.path)
        write_json(partial_out / "strengths.json", strength)
        fit(
            partial_out,
            dense,
            opened,
            settings.learn,
            logs,
            teacher=known,
            shrink=shrink,
            ramp=settings.penalty.ramp,
            watch=shrink and shrink.effective_lines,
        )

    parents = _given(model=model, analysis=analysis, corpus=text, teacher=teacher, table=table)
    said = resolved(settings.model_copy(update={"table": None}))  # which one it is, the parents say
    return stage("shs", "model", out, said, {**parents, **_numbered(earlier)}, make)


def plan(
    out: Path,
    model: Artifact,
    analysis: Artifact | None,
    text: Artifact | None,
    target: Target,
    seed: int,
    *,
    table: Artifact | None = None,
    dense: Artifact | None = None,
    earlier: Sequence[Artifact] = (),
    template: Artifact | None = None,
    rounds_left: int = 1,
    match: bool = False,
) -> Stage:
    """Which units are kept; without an analysis all components count alike.

    A speedup is over `dense`, or over the model itself. `earlier` are the plans by which the analyzed model became this
    one; a `template` is a plan whose shape is wanted, whatever the target's budget says, or with `match` only the time
    that the table predicts for it.
    """
    target = target.model_copy(update={"table": None})  # which one it is, the parents say

    def make(partial_out: Path) -> None:
        from tprune.benchmarks import table as tables
        from tprune.learn.compatibility import open_for
        from tprune.model import checkpoint
        from tprune.model.shape import TPruneConfig
        from tprune.progress import tell
        from tprune.sparsity import bssl, lines, planner, scores
        from tprune.sparsity import plan as plans
        from tprune.sparsity import template as templates
        from tprune.sparsity.latency import Importance

        source = checkpoint.load(model.path)
        measured = _findings(analysis, earlier, source.config) if analysis else None
        groups = lines.groups(source.config, lines.WIDTH_KINDS)
        opened = open_for(text, model) if text else None
        pairs = opened.split(opened.train) if opened else None
        found = scores.score(target.score, source, groups, pairs, seed, bssl.importance(measured) if measured else None)
        parts = measured and Importance(bssl.sublayer_importance(measured), bssl.layer_importance(measured))
        whole = None if dense is None else TPruneConfig.from_dict(checkpoint.read_config(dense.path))
        costs = tables.read(table.path) if table else None
        like = plans.read(template.path) if template else None
        if like and match and costs:
            chosen = templates.match(source.config, target, found, like, costs, parts)
        elif like:
            chosen = templates.choose(source.config, target, found, like, rounds_left)
        else:
            chosen = planner.make(source.config, target, found, importance=parts, costs=costs, whole=whole)
            if costs:
                tell(tables.forecast(costs, chosen.how))
        plans.write(chosen, partial_out / "plan.json")

    return stage(
        f"plan {target.name}",
        "plan",
        out,
        {"target": resolved(target), "seed": seed}
        | ({} if template is None else {"rounds_left": rounds_left, "match": match}),
        {
            **_given(model=model, analysis=analysis, corpus=text, table=table, dense=dense, template=template),
            **_numbered(earlier),
        },
        make,
    )


def prune(
    out: Path,
    model: Artifact,
    chosen: Artifact,
    text: Artifact | None = None,
    seed: int = 1,
    *,
    tokens_only: bool = False,
) -> Stage:
    """The smaller model, not yet recovered; with a text, its kept lines make up for the dropped ones.

    With `tokens_only` the model without the plan's tokens, whatever else the plan says.
    """

    def make(partial_out: Path) -> None:
        from tprune.learn.compatibility import open_for
        from tprune.model import checkpoint
        from tprune.sparsity import plan as plans
        from tprune.sparsity import surgery
        from tprune.sparsity.compensate import compensate
        from tprune.text import trimming, vocab

        source, wanted = checkpoint.load(model.path), plans.read(chosen.path)
        if tokens_only:
            wanted = plans.of_vocabulary(wanted, source.config)
        elif text is not None:
            opened = open_for(text, model)
            source = compensate(source, wanted, opened.split(opened.train), seed)
        checkpoint.save(surgery.prune(source, wanted), partial_out)
        if plans.trims(wanted):
            trimming.write(model.path, partial_out, plans.tokens(source.config, wanted))
        else:
            vocab.copy_files(model.path, partial_out)

    config: dict[str, Any] = {"tokens_only": True} if tokens_only else {}
    config |= {"seed": seed} if text else {}
    return stage(f"prune {out.name}", "model", out, config, _given(model=model, plan=chosen, corpus=text), make)


def _findings(analysis: Artifact, earlier: Sequence[Artifact], config: "TPruneConfig") -> Any:
    """BSSL's findings in the words of the model that these plans made."""
    from tprune.sparsity import bssl
    from tprune.sparsity import plan as plans

    found = read_json(analysis.path / "analysis.json")
    for made in earlier:
        found = bssl.carried(found, plans.read(made.path))
    bssl.require_of(found, config, analysis.path)
    return found


def _numbered(earlier: Sequence[Artifact]) -> dict[str, Artifact]:
    return {f"plan {number}": made for number, made in enumerate(earlier, start=1)}


def _given(**parents: Artifact | None) -> dict[str, Artifact]:
    return {name: parent for name, parent in parents.items() if parent is not None}
