"""The stages in order; which are current, which are stale; resume.

The whole state is in the run's directory: an artifact whose inputs have not changed is kept, one
whose inputs have is made again, a killed stage goes on from its scratch.
"""

from collections.abc import Callable
from pathlib import Path

from tprune import delivery, stages, trim
from tprune.artifact import Artifact, read
from tprune.config import PRECISIONS, Config, Export
from tprune.errors import InputError
from tprune.stages import Stage

Tell = Callable[[str], None]
LAST = ("corpus", "dense", "analysis", "shs", "recover", "bundles", "results", "report")


def run(config: Config, out: Path, tell: Tell, until: str = "report") -> Artifact:
    """Run the pipeline in `out`, reusing what is current.

    Args:
        config: The recipe.
        out: The run's directory; made when absent.
        tell: Gets one line for every stage.
        until: The last stage to run, one of LAST.

    Returns:
        The last artifact.

    Raises:
        InputError: `out` is a file, or no such stage.
        TpruneError: What the stages raise.
    """
    if until not in LAST:
        raise InputError("no such stage", got=until, wanted=" | ".join(LAST), fix="use one of these")
    if out.exists() and not out.is_dir():
        raise InputError("not a directory", where=out, fix="give a directory, or a new name, with --out")
    steps = LAST[: LAST.index(until) + 1]
    if config.start is not None:
        # the converted model brings the tokenizer, so it comes before the text
        dense = _settle(stages.convert(out / "dense", config.start, config.languages), tell)
        last = text = _settle(stages.corpus(out / "corpus", config.text, dense.path), tell)
    else:
        last = text = _settle(stages.corpus(out / "corpus", config.text), tell)
    if "dense" in steps and config.start is None:
        last = dense = _settle(stages.train(out / "dense", text, config.model, config.learn, out / "logs/dense"), tell)
    if "analysis" in steps:
        last = analysis = _settle(
            stages.analyze(out / "analysis", dense, text, config.analyze, out / "logs/analysis"), tell
        )
    sources = {"dense": dense} if "analysis" in steps else {}
    if "shs" in steps and _wants_shs(config):
        last = sources["shs"] = _settle(
            stages.shs(out / "shs", dense, analysis, text, config.shs, out / "logs/shs"), tell
        )
    models = {"dense": dense} if "dense" in steps else {}
    plans: dict[str, Artifact] = {}
    for target in config.targets if "recover" in steps else ():
        source = sources["shs" if target.score == "shs" else "dense"]
        whole = None
        if trim.turns(source, target):
            whole, source = source, _settle(trim.stream(out / "narrow" / target.name, source, text, target), tell)
        plans[target.name] = _settle(
            stages.plan(out / "plans" / target.name, source, analysis, text, target, config.learn.seed, whole), tell
        )
        pruned = _settle(stages.prune(out / "pruned" / target.name, source, plans[target.name]), tell)
        teacher, lessons = dense, text
        if target.vocabulary is not None:  # both have to speak the pruned model's ids
            trimmed = out / "trimmed" / target.name
            teacher = _settle(stages.prune(trimmed / "dense", dense, plans[target.name], tokens_only=True), tell)
            lessons = _settle(trim.corpus(trimmed / "corpus", text, source, plans[target.name]), tell)
        last = models[target.name] = _settle(
            stages.recover(
                out / "recovered" / target.name,
                pruned,
                teacher,
                lessons,
                config.recover,
                out / "logs/recover" / target.name,
            ),
            tell,
        )
    entries = {("pytorch", "fp32", name): model for name, model in models.items()}
    for engine, precision in _forms(config.export) if "bundles" in steps else ():
        folder = out / "bundles" / engine / precision
        for name, model in models.items():
            last = entries[engine, precision, name] = _settle(
                delivery.bundle(folder / name, model, engine, precision, text, config.export), tell
            )
    if "results" in steps:
        timed = {key: made for key, made in entries.items() if key[0] in config.bench.engines}
        last = results = _settle(delivery.bench(out / "results", config.name, timed, text, config.bench), tell)
    if "report" in steps:
        last = _settle(delivery.report(out / "report", config.name, results, analysis, models, plans), tell)
    return last


def _forms(export: Export) -> list[tuple[str, str]]:
    """Engine and precision of the bundles: of the precisions wanted those that each engine has."""
    return [(engine, name) for engine in export.engines for name in PRECISIONS[engine] if name in export.precisions]


def _wants_shs(config: Config) -> bool:
    return any(target.score == "shs" for target in config.targets)


def _settle(stage: Stage, tell: Tell) -> Artifact:
    if stage.is_current():
        tell(f"{stage.name}: up to date ({stage.out})")
        return read(stage.out)
    tell(f"{stage.name}: {'stale, making it again' if stage.out.exists() else 'making'} ({stage.out})")
    return stage.make(stage.out.exists())
