"""The stages after a recovered model: bundles, benchmark, report."""

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tprune import artifact
from tprune.artifact import Artifact
from tprune.config import Config
from tprune.delivery_config import Bench, DeviceBench, Export, Shortlist, Table
from tprune.entries import Entry, require_dense, require_direction
from tprune.errors import InputError
from tprune.json_file import read_json, write_json
from tprune.section import resolved
from tprune.stage import Stage, stage


def shortlist(out: Path, text: Artifact, settings: Shortlist) -> Stage:
    """Candidates of the output projection by source token, and how much of the validation text they cover."""

    def make(partial_out: Path) -> None:
        from dataclasses import asdict

        from tprune.export import lexicon as room
        from tprune.export import shortlist as shortlists
        from tprune.text.corpus import open_corpus

        opened = open_corpus(text)
        learned = room.learn(opened, settings)
        shortlists.save(learned, partial_out / shortlists.FILE)
        covered = room.coverage(learned, opened.split(opened.valid), opened.tokenizer.eos_id)
        write_json(partial_out / room.COVERAGE, asdict(covered))

    return stage("shortlist", "shortlist", out, resolved(settings), {"corpus": text}, make)


def table(out: Path, like: Artifact, text: Artifact | None, settings: Table, device: DeviceBench) -> Stage:
    """What each component costs on a machine, up to the widths of a model and at the lengths of a corpus."""
    from tprune.benchmarks import filling
    from tprune.benchmarks.table import KIND
    from tprune.model.checkpoint import read_config
    from tprune.model.shape import TPruneConfig

    config = TPruneConfig.from_dict(dict(read_config(like.path)))
    lengths = (settings.source_tokens, settings.target_tokens) if text is None else filling.mean_lengths(text)

    def open_meter(folder: Path) -> filling.Meter:
        from tprune.android_runner.links import open_link
        from tprune.android_runner.meter import DeviceMeter
        from tprune.android_runner.session import Session
        from tprune.android_runner.transport import Device
        from tprune.progress import tell

        threads = device.model_copy(update={"threads": settings.threads})
        session = Session(Device(open_link(str(settings.device))), threads, folder, tell)
        return DeviceMeter(session, folder, settings, lengths[0])

    where = (None, None) if settings.device is None else (device.pin, open_meter)
    return Stage(
        "latency table",
        out,
        artifact.fingerprint(KIND, filling.inputs(config, *lengths, settings, where[0]), {}),
        filling.fill(out, config, *lengths, settings, *where),
    )


def bundle(
    out: Path,
    model: Artifact,
    engine: str,
    precision: str,
    text: Artifact | None,
    settings: Export,
    shortlist: Artifact | None = None,
) -> Stage:
    """The directory that goes to the phone."""
    from tprune.export import bundle as room

    config = room.inputs(engine, precision, settings)

    def make(force: bool) -> Artifact:
        from tprune.export import shortlist as shortlists
        from tprune.export.lexicon import check_words
        from tprune.text.corpus import open_corpus
        from tprune.text.vocab import Tokenizer

        if shortlist is not None:
            check_words(shortlist.path / shortlists.FILE, Tokenizer.load(model.path))
        sentences = languages = None
        if text is not None:
            opened = open_corpus(text)
            languages = opened.source, opened.target
            # in the model's own ids, which need not be those of the corpus
            sentences = Tokenizer.load(model.path).encode(opened.raw(opened.valid)[0])
        return room.export(
            model.path,
            out,
            engine,
            settings,
            precision=precision,
            sentences=sentences,
            shortlist=shortlist,
            languages=languages,
            force=force,
        )

    parents = {"model": model} if shortlist is None else {"model": model, "shortlist": shortlist}
    return Stage(f"export {engine} {precision} {out.name}", out, artifact.fingerprint("bundle", config, parents), make)


def bench(out: Path, experiment: str, entries: Mapping[Entry, Artifact], text: Artifact, settings: Bench) -> Stage:
    """Latency and BLEU of dense and pruned models, by engine, precision and model name, on this machine."""
    from tprune.text.corpus import judged_by, open_corpus

    require_dense(entries)
    require_direction([*entries.values()], text)

    def make(partial_out: Path) -> None:
        from tprune.benchmarks import comparison, quality, record
        from tprune.progress import narrate

        dataset, target = quality.dataset_name(text), text.manifest["config"]["target"]
        scratch = partial_out / artifact.SCRATCH
        with narrate("benchmark") as progress:
            rows = comparison.compare(
                experiment, dataset, entries, open_corpus(text), target, settings, scratch, progress
            )
            record.write(partial_out / "results.json", rows)

    parents = {**{"/".join(key): made for key, made in entries.items()}, "corpus": text}
    config = {"experiment": experiment, **judged_by(text), **resolved(settings)}
    return stage("benchmark", "results", out, config, parents, make)


def bench_devices(
    out: Path,
    experiment: str,
    entries: Mapping[Entry, Artifact],
    text: Artifact,
    settings: Config,
    names: Sequence[str],
) -> Stage:
    """Latency, memory and BLEU of bundles, dense and pruned, on devices side by side."""
    from tprune.android_runner.passes import Passes
    from tprune.text.corpus import judged_by, open_corpus

    require_direction([*entries.values()], text)
    parents = {**{"/".join(key): made for key, made in entries.items()}, "corpus": text}
    passes, measured_on = Passes.of(out, parents, settings.device), list[str]()

    def make(partial_out: Path) -> None:
        from threading import Event

        from tprune.android_runner.links import open_links
        from tprune.android_runner.measurement import measure
        from tprune.android_runner.session import Session
        from tprune.android_runner.side_by_side import on_all
        from tprune.android_runner.transport import Device
        from tprune.benchmarks import quality, record
        from tprune.progress import tell

        corpus, dataset, target = open_corpus(text), quality.dataset_name(text), text.manifest["config"]["target"]

        def measured(device: Device) -> list[record.Row]:
            session = Session(device, settings.device, passes.folder(device.name), tell)
            return list(measure(experiment, dataset, session, entries, corpus, target, settings.bench))

        stop = Event()
        devices = [Device(link, stop=stop) for link in open_links(names)]
        rows = [row for found in on_all(devices, measured, stop, tell) for row in found]
        record.write(partial_out / "results.json", rows)
        measured_on.extend(device.name for device in devices)

    def finish(force: bool) -> Artifact:
        made = described.make(force)
        passes.sweep(measured_on)
        return made

    config = {
        "experiment": experiment,
        **judged_by(text),
        "devices": list(names),
        "device": resolved(settings.device),
        "bench": resolved(settings.bench),
    }
    described = stage("benchmark on devices", "results", out, config, parents, make)
    return replace(described, make=finish)


def pack(out: Path, bundle: Artifact, text: Artifact, abi: str, settings: DeviceBench, force: bool) -> Artifact:
    """Everything that goes to a device for a bundle, in one folder."""
    from tprune.android_runner import build, package, run_file
    from tprune.android_runner.run_file import Job
    from tprune.benchmarks import quality
    from tprune.export import description
    from tprune.text import plain_tokenizer
    from tprune.text.corpus import open_corpus

    require_direction([bundle], text)
    said = description.read(bundle.path)
    job = Job(
        run_file.modes(said)[0],
        settings.threads,
        settings.runs,
        warmup=settings.warmup,
        seconds=settings.seconds,
    )
    sentences = quality.spread(open_corpus(text), settings.sentences, plain_tokenizer.load(bundle.path))
    return package.pack(out, build.build(said.engine, abi), bundle, job, sentences, force)


def report(
    out: Path,
    title: str,
    results: Artifact,
    analysis: Artifact,
    models: Mapping[str, Artifact],
    plans: Mapping[str, Artifact],
    table: Artifact | None = None,
) -> Stage:
    """The page that shows speedup versus BLEU; with a latency table also where the time goes."""

    def make(partial_out: Path) -> None:
        from tprune.benchmarks import record
        from tprune.benchmarks.report import write_report

        cut = {name: model for name, model in models.items() if name != record.DISTILLED}  # which has dense's widths

        def config(model: Artifact) -> Any:
            return read_json(model.path / "config.json")

        write_report(
            partial_out,
            record.read_all(results.path),
            title=f"tprune: {title}",
            analysis=read_json(analysis.path / "analysis.json"),
            plans={name: read_json(made.path / "plan.json")["how"] for name, made in plans.items()},
            shapes={
                name: {stack: config(model)[f"{stack}_shapes"] for stack in ("encoder", "decoder")}
                for name, model in cut.items()
            },
            training={name: _losses(made) for name, made in {**models, "BSSL": analysis}.items()},
            times=_times(table, cut),
        )

    parents = {
        "results": results,
        "analysis": analysis,
        **{f"model/{name}": made for name, made in models.items()},
        **{f"plan/{name}": made for name, made in plans.items()},
        **({} if table is None else {"table": table}),
    }
    return stage("report", "report", out, {"title": title}, parents, make)


def _times(table: Artifact | None, models: Mapping[str, Artifact]) -> dict[str, dict[str, float]]:
    """Predicted ms by component of every model that the table reaches."""
    if table is None:
        return {}
    from tprune.benchmarks import table as tables
    from tprune.model import checkpoint
    from tprune.model.shape import TPruneConfig

    opened, found = tables.read(table.path), {}
    for name, model in models.items():
        with contextlib.suppress(InputError):  # a plan that was not made with it may lie outside its grid
            found[name] = tables.by_component(opened, TPruneConfig.from_dict(checkpoint.read_config(model.path)))
    return found


def _losses(made: Artifact) -> list[tuple[int, float]]:
    history = made.path / "history.json"
    entries = read_json(history) if history.exists() else []
    return [(int(entry["step"]), entry["eval_loss"]) for entry in entries if "eval_loss" in entry]
