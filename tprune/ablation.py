"""Runs an ablation: what rows share is made once, each row is made and measured by itself, and all of it resumes.

Run as `python -m tprune.ablation SUITE OUT [--run RUN] [--set section.key=value] [--only "half.*"] [--no-measure]`; it
goes on where it was stopped, row by row, and `tprune report OUT` prints the rows. `--run` takes corpus, dense model and
analysis of a run; `--only` makes, and reports, some of the rows; `--no-measure` makes models and bundles beside other
work, for a later call to time them beside nothing.

OUT/shared      corpus, dense model and analysis, SHS models, distilled text
OUT/shapes      the plan of every shape
OUT/rows/ROW    plans, models, bundles and results of one row and seed
OUT/results.json, OUT/report
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated

import typer

from tprune import artifact, delivery, pipeline, recovery, rounds, settings, stages, trim
from tprune.artifact import Artifact
from tprune.benchmarks import record
from tprune.benchmarks.record import DENSE, Row
from tprune.benchmarks.report import write_report
from tprune.benchmarks.suite import Job, Suite, jobs, load
from tprune.config import Config
from tprune.entries import Entry
from tprune.entry import script
from tprune.errors import InputError, TpruneError
from tprune.json_file import read_json
from tprune.progress import tell as tell_user
from tprune.stage import Stage

Tell = Callable[[str], None]
RESULTS = "results.json"
SHARED = ("start", "languages", "text", "model", "learn", "analyze")
"""Settings of what all rows share."""


@dataclass(frozen=True)
class Base:
    """What all rows are made from."""

    text: Artifact
    dense: Artifact
    analysis: Artifact

    def table(self, config: Config, named: str | None, shared: Path, tell: Tell) -> Artifact | None:
        """The latency table that a budget is counted with."""
        return pipeline.latency_table(config, named, shared, self.dense, self.text, tell)


@dataclass(frozen=True)
class Made:
    """What a row is worth on the validation text, and its model and the dense one in every form that is timed."""

    validation: Artifact
    entries: Mapping[Entry, Artifact]


def run(
    suite: Suite,
    out: Path,
    tell: Tell,
    base_run: Path | None = None,
    only: Sequence[str] = ("*",),
    *,
    measured: bool = True,
) -> Path:
    """Make and measure every row of a suite.

    A row that fails is told, and the others go on.

    Args:
        suite: What to compare.
        out: The directory of everything; made when absent.
        tell: Gets one line for every stage.
        base_run: Take corpus, dense model and analysis from this run instead of making them.
        only: Patterns such as `half.*`, of which a row's SHAPE.NAME.SEED has to match one.
        measured: Time the models too, and write the rows.

    Returns:
        Path of the file with all rows; where none are measured, the directory of their models and bundles.

    Raises:
        InputError: Settings of a row do not fit, or change what all rows share; or no row matches a pattern.
        TpruneError: A row failed; after the others are done.
    """
    config = settings.load(suite.recipe, suite.set)
    wanted = _matching(list(jobs(suite)), only)
    own = {job.label: _config_of(suite, job, config) for job in wanted}
    out.mkdir(parents=True, exist_ok=True)
    base = _base(config, out / "shared", tell, base_run)
    followed = {job.shape for job in wanted if job.follows(suite.table is not None)}
    shapes = {
        shape.name: pipeline.settle(
            stages.plan(
                out / "shapes" / shape.name,
                base.dense,
                base.analysis,
                base.text,
                shape.target,
                config.learn.seed,
                table=base.table(config, shape.target.table, out / "shared", tell),
            ),
            tell,
        )
        for shape in suite.shapes
        if shape.name in followed
    }
    rows: list[Row] = []
    failed: list[str] = []
    for job in wanted:
        try:
            made = _make(suite, job, own[job.label], base, shapes.get(job.shape), out, tell)
            if not measured:
                continue
            rows += _measure(suite, job, own[job.label], base, made, out, tell)
        except TpruneError as error:
            tell(f"row {job.label} failed: {error}")
            failed.append(f"{job.label}: {error}")
        record.write(out / RESULTS, gathered(rows))  # after every row: what is there can be looked at
    if rows:
        write_report(out / "report", gathered(rows), title=f"tprune: {suite.name}")
    if failed:
        raise InputError(
            "rows of the suite failed", problems=failed, fix="correct them and run it again: the others stay"
        )
    return out / (RESULTS if measured else "rows")


def gathered(rows: Iterable[Row]) -> list[Row]:
    """All rows, but the dense model's of every setting only once: each row's speedup is against its own run's."""
    seen: set[tuple[object, ...]] = set()
    found = []
    for row in rows:
        key = (row.engine, row.precision, row.threads, row.decode)
        if row.dense and key in seen:
            continue
        if row.dense:
            seen.add(key)
        found.append(row)
    return found


def _matching(all_jobs: Sequence[Job], only: Sequence[str]) -> list[Job]:
    labels = [job.label for job in all_jobs]
    if idle := [pattern for pattern in only if not any(fnmatchcase(label, pattern) for label in labels)]:
        raise InputError("no row is called so", got=", ".join(idle), wanted=" | ".join(labels), fix="correct --only")
    return [job for job in all_jobs if any(fnmatchcase(job.label, pattern) for pattern in only)]


def _base(config: Config, folder: Path, tell: Tell, base_run: Path | None) -> Base:
    if base_run is None:
        pipeline.run(config, folder, tell, "analysis")
    where = base_run or folder
    kinds = {"corpus": "corpus", "dense": "model", "analysis": "analysis"}
    text, dense, analysis = (artifact.read(where / name, kind) for name, kind in kinds.items())
    for role, made in (("model", dense), ("corpus", text)):
        if analysis.manifest["parents"][role]["identity"] != made.identity:
            raise InputError(
                "the analysis is not of this run",
                where=analysis.path,
                got=f"another {role} than {made.path}",
                fix="make it again: `tprune run RECIPE --out RUN --until analysis`",
            )
    return Base(text, dense, analysis)


def _config_of(suite: Suite, job: Job, base: Config) -> Config:
    seeds = [f"{section}={job.seed}" for section in ("shs.learn.seed", "between.seed", "recover.seed")]
    config = settings.load(suite.recipe, [*suite.set, *seeds, *job.entry.set])
    changed = [name for name in SHARED if getattr(config, name) != getattr(base, name)]
    if changed:
        raise InputError(
            "a row changes what all rows share",
            where=f"row {job.entry.name}",
            got=", ".join(changed),
            fix="put it into the suite's own `set`, or into a suite of its own",
        )
    if trim.trims(job.target) and job.follows(suite.table is not None):
        raise InputError(
            "a row that takes another shape keeps the vocabulary and the stream",
            where=f"row {job.entry.name}",
            wanted="a target without vocabulary and hidden, or of the planner latency with its own widths",
            fix="start the suite from a run whose dense model is trimmed",
        )
    pipeline.require_trained(config.model_copy(update={"targets": (job.target,)}))
    return config


def _make(suite: Suite, job: Job, config: Config, base: Base, shape: Artifact | None, out: Path, tell: Tell) -> Made:
    def settle(stage: Stage) -> Artifact:
        return pipeline.settle(stage, tell)

    folder, shared = out / "rows" / job.label, out / "shared"
    lessons = base.text
    if config.distill.on:
        lessons = settle(
            _once(shared / "distilled", lambda path: recovery.distill(path, base.dense, base.text, config.distill))
        )
    model, given = base.dense, rounds.Inputs(base.dense, None, base.analysis, base.text, lessons)
    if job.entry.widths != "dense":
        table = base.table(config, suite.table if job.matches else job.target.table, shared, tell)
        whole = _regularized(replace(given, table=table), job, config, base, shared, tell)
        given = rounds.trimmed(job.target, whole, folder / "trimmed", settle, seed=job.seed)
        match = job.matches and table is not None
        template = shape if match or job.entry.widths == "same" else None
        model = rounds.cut(
            config, job.target, given, folder, settle, seed=job.seed, template=template, match=match
        ).model
    pipeline.require_bundled(config, given.text)
    if job.entry.fresh:
        model = settle(recovery.fresh(folder / "fresh", model, job.seed))
    recovered = settle(
        recovery.recover(folder / "recovered", model, given.wise, given.lessons, config.recovery, folder / "logs")
    )
    checked = settle(recovery.validate(folder / "validation", recovered, given.text))
    entries = {
        **pipeline.bundles(config, shared, {DENSE: base.dense}, base.text, tell),
        **pipeline.bundles(config, folder, {job.target.name: recovered}, base.text, tell),
    }
    return Made(checked, entries)


def _measure(suite: Suite, job: Job, config: Config, base: Base, made: Made, out: Path, tell: Tell) -> list[Row]:
    timed = {key: entry for key, entry in made.entries.items() if key[0] in config.bench.engines}
    results = pipeline.settle(
        delivery.bench(out / "rows" / job.label / "results", suite.name, timed, base.text, config.bench), tell
    )
    validation = read_json(made.validation.path / recovery.VALIDATION)
    said = {
        "criterion": job.entry.name,
        "shape": job.shape,
        "seed": job.seed,
        "widths": job.entry.widths,
        "settings": list(job.entry.set),
        **{f"valid_{name}": validation[name] for name in ("bleu", "loss")},
    }
    return [
        row if row.dense else Row.model_validate({**row.model_dump(mode="json", by_alias=True), **said})
        for row in record.read_all(results.path)
    ]


def _regularized(given: rounds.Inputs, job: Job, config: Config, base: Base, shared: Path, tell: Tell) -> rounds.Inputs:
    """With the model after SHS training, where the row's score is read off it."""
    if not job.target.reads_sparse:
        return given
    hint = base.table(config, config.shs.table, shared, tell)

    def describe(path: Path) -> Stage:
        return stages.shs(path, base.dense, base.analysis, base.text, config.shs, _logs(path), table=hint)

    sparse = pipeline.settle(_once(shared / "shs", describe), tell)
    return replace(given, sparse=sparse, hint=hint)


def _once(path: Path, describe: Callable[[Path], Stage]) -> Stage:
    """A stage that rows with the same settings share: its directory is named by what it is made from."""
    return describe(path.with_name(f"{path.name}-{describe(path).fingerprint[:12]}"))


def _logs(path: Path) -> Path:
    return path.with_name(path.name + ".logs")


def _main(
    suite: Annotated[Path, typer.Argument(help="A .toml file, such as benchmarks/suite.toml.")],
    out: Annotated[Path, typer.Argument(help="Directory of the runs and of results.json.")],
    base: Annotated[Path | None, typer.Option("--run", help="Corpus, dense model and analysis are there.")] = None,
    overrides: Annotated[list[str] | None, typer.Option("--set", help="section.key=value, for every row.")] = None,
    only: Annotated[list[str] | None, typer.Option(help="Rows as SHAPE.NAME.SEED, with * for anything.")] = None,
    measure: Annotated[
        bool, typer.Option(help="Off: make models and bundles; time them later, beside nothing.")
    ] = True,
) -> None:
    print(run(load(suite, overrides or ()), out, tell_user, base, only or ("*",), measured=measure))


if __name__ == "__main__":
    script(_main)
