"""The stages in order; which are current, which are stale; resume.

The whole state is in the run's directory: an artifact whose inputs have not changed is kept, one
whose inputs have is made again, a killed stage goes on from its scratch.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

from tprune import delivery, ranks, recovery, rounds, stages
from tprune.artifact import Artifact, read
from tprune.benchmarks.record import DENSE, DISTILLED
from tprune.config import PENALTY_NORMS, Config
from tprune.delivery_config import MEASURE, PRECISIONS, PYTORCH, Export
from tprune.entries import Entry
from tprune.errors import InputError
from tprune.settings import STAGES
from tprune.stage import Stage

Tell = Callable[[str], None]


def run(config: Config, out: Path, tell: Tell, until: str = "report") -> Artifact:
    """Run the pipeline in `out`, reusing what is current.

    Args:
        config: The recipe.
        out: The run's directory; made when absent.
        tell: Gets one line for every stage.
        until: The last stage to run, one of STAGES.

    Returns:
        The last artifact.

    Raises:
        InputError: `out` is a file, no such stage, a score that the penalty does not train for, or several processes.
        PlanError: A target's layers or share of the dense model that no plan can meet.
        TpruneError: What the stages raise.
    """
    if until not in STAGES:
        raise InputError("no such stage", got=until, wanted=" | ".join(STAGES), fix="use one of these")
    require_one_process(out)
    if out.exists() and not out.is_dir():
        raise InputError("not a directory", where=out, fix="give a directory, or a new name, with --out")
    require_trained(config)
    steps = STAGES[: STAGES.index(until) + 1]
    if config.start is not None:
        # the converted model brings the tokenizer, so it comes before the text; but no model is fetched for no text
        stages.corpus(out / "corpus", config.text)
        dense = settle(stages.convert(out / "dense", config.start, config.languages), tell)
        last = text = settle(stages.corpus(out / "corpus", config.text, dense.path), tell)
    else:
        last = text = settle(stages.corpus(out / "corpus", config.text), tell)
    if "results" in steps:
        require_bundled(config, text)
    if "recover" in steps:
        require_reachable(config, text, out / "dense")
    if "dense" in steps and config.start is None:
        last = dense = settle(stages.train(out / "dense", text, config.model, config.learn, out / "logs/dense"), tell)
    if "analysis" in steps:
        last = analysis = settle(
            stages.analyze(out / "analysis", dense, text, config.analyze, out / "logs/analysis"), tell
        )
    sparse = hint = None
    if "shs" in steps and _wants_shs(config):
        hint = latency_table(config, config.shs.table, out, dense, text, tell)
        last = sparse = settle(
            stages.shs(out / "shs", dense, analysis, text, config.shs, out / "logs/shs", table=hint), tell
        )
    models = {DENSE: dense} if "dense" in steps else {}
    lessons = text
    if "distill" in steps and config.distill.on:
        last = lessons = settle(recovery.distill(out / "distilled", dense, text, config.distill), tell)
    plans: dict[str, Artifact] = {}
    table, seed = None, config.learn.seed
    for target in config.targets if "recover" in steps else ():
        own = latency_table(config, target.table, out, dense, text, tell)
        table = table or own
        whole = rounds.Inputs(dense, sparse, analysis, text, lessons, own, hint)
        given = rounds.trimmed(
            target, whole, out / "trimmed" / target.name, lambda stage: settle(stage, tell), seed=seed
        )
        if "results" in steps:
            require_bundled(config, given.text)  # rarer tokens gone, sentences may be longer
        cut = rounds.cut(config, target, given, out, lambda stage: settle(stage, tell), seed=seed)
        plans[target.name] = cut.plan
        last = models[target.name] = settle(
            recovery.recover(
                out / "recovered" / target.name,
                cut.model,
                given.wise,
                given.lessons,
                config.recovery,
                out / "logs/recover" / target.name,
            ),
            tell,
        )
    if "recover" in steps and config.distill.on and config.distill.dense:
        # what the data brings without any pruning, not to be counted as pruning's; no target waits for it
        taught = recovery.recover(out / DISTILLED, dense, dense, lessons, config.recovery, out / "logs" / DISTILLED)
        models = {DENSE: dense, DISTILLED: settle(taught, tell), **models}
    if "bundles" in steps:
        entries = bundles(config, out, models, text, tell)
        last = [*entries.values()][-1]
    if "results" in steps:
        timed = {key: made for key, made in entries.items() if key[0] in config.bench.engines}
        last = results = settle(delivery.bench(out / "results", config.name, timed, text, config.bench), tell)
    if "report" in steps:
        last = settle(
            delivery.report(out / "report", config.name, results, analysis, models, plans, table or hint), tell
        )
    return last


def bundles(
    config: Config, out: Path, models: Mapping[str, Artifact], text: Artifact, tell: Tell
) -> dict[Entry, Artifact]:
    """Everything that a benchmark can run, by engine, precision and name: the models, and bundles in `out`."""
    entries = {("pytorch", "fp32", name): model for name, model in models.items()}
    for engine, precision in _forms(config.export):
        for name, model in models.items():
            entries[engine, precision, name] = settle(
                delivery.bundle(
                    out / "bundles" / engine / precision / name, model, engine, precision, text, config.export
                ),
                tell,
            )
    return entries


def latency_table(
    config: Config, named: str | None, out: Path, dense: Artifact, text: Artifact, tell: Tell
) -> Artifact | None:
    """The latency table of this path, or one filled in `out` for MEASURE."""
    from tprune.benchmarks.table import open_table

    if named == MEASURE:
        return settle(delivery.table(out / "table", dense, text, config.table, config.device), tell)
    return None if named is None else open_table(Path(named))


def _forms(export: Export) -> list[tuple[str, str]]:
    """Engine and precision of the bundles: of the precisions wanted those that each engine has."""
    return [(engine, name) for engine in export.engines for name in PRECISIONS[engine] if name in export.precisions]


def _wants_shs(config: Config) -> bool:
    return any(target.reads_sparse for target in config.targets)


def require_one_process(out: Path) -> None:
    """Refuse processes that would do what the first one does, and measure how long it takes beside it."""
    if ranks.are_several():
        raise InputError(
            "the pipeline runs in one process",
            got="one of several, as torchrun starts",
            fix=f"run it in one process with --until corpus, then `tprune train {out / 'corpus'} --out {out / 'dense'}`"
            " with the same recipe in several, then it again in one",
        )


def require_bundled(config: Config, text: Artifact) -> None:
    """Refuse a benchmark of nothing, or of test sentences that its bundles could not translate, before any training."""
    from tprune.text import lengths

    exported = {engine for engine, _ in _forms(config.export)}
    if not {*exported, PYTORCH} & set(config.bench.engines):
        raise InputError(
            "nothing to benchmark",
            where="bench.engines",
            got=" | ".join(config.bench.engines),
            wanted=" | ".join([PYTORCH, *sorted(exported)]) + ", for which export makes bundles",
            fix="set bench.engines, or export.engines and export.precisions",
        )
    if exported & set(config.bench.engines):
        lengths.require_bundled(text, config.export.max_source)


def require_reachable(config: Config, text: Artifact, converted: Path) -> None:
    """Refuse targets that no plan for the dense model, or no tokenizer, can meet, before there is any training."""
    from tprune.model import checkpoint
    from tprune.model.shape import TPruneConfig
    from tprune.sparsity import reach
    from tprune.text import trimming
    from tprune.text.corpus import TOKENIZER, open_corpus

    if config.start is None:
        dense = stages.dense_shape(open_corpus(text), config.model)
    else:
        dense = TPruneConfig.from_dict(checkpoint.read_config(converted))
    reach.require(dense, config.targets, config.table)
    if any(target.vocabulary is not None for target in config.targets):
        trimming.require_possible(text.path / TOKENIZER)


def require_trained(config: Config) -> None:
    """Refuse to call norms those of one penalty when another one made them."""
    kind = config.shs.penalty.kind
    if problems := [
        f"target {target.name}, score {target.score}: shs.penalty.kind is {kind}"
        for target in config.targets
        if target.score in PENALTY_NORMS and target.score != kind
    ]:
        raise InputError(
            "no model is trained for this score", problems=problems, fix="set shs.penalty.kind, or the target's score"
        )


def settle(stage: Stage, tell: Tell) -> Artifact:
    """The stage's artifact: the one that is there if it is current, else made now; `tell` gets a line."""
    if stage.is_current():
        tell(f"{stage.name}: up to date ({stage.out})")
        return read(stage.out)
    tell(f"{stage.name}: {'stale, making it again' if stage.out.exists() else 'making'} ({stage.out})")
    return stage.make(stage.out.exists())
