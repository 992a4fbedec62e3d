"""Dense against pruned on one device: latency in turn, memory and quality in passes of their own, as result rows.

What is compared ran with the same pinning, threads, engine and precision, or is not compared.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tprune.android_runner import cold_starts, energy
from tprune.android_runner.journal import Journal
from tprune.android_runner.session import Pass, Session
from tprune.artifact import Artifact
from tprune.benchmarks import comparison, quality
from tprune.benchmarks.quality import Output
from tprune.benchmarks.ratios import timed_fields
from tprune.benchmarks.record import DENSE, Row
from tprune.delivery_config import Bench
from tprune.errors import InputError, MachineError
from tprune.export import description
from tprune.model.search import Search
from tprune.provenance import made_by
from tprune.text import plain_tokenizer
from tprune.text.corpus import Corpus

Key = tuple[str, str, str]
"""Engine, precision and model name."""


def measure(
    experiment: str,
    dataset: str,
    session: Session,
    entries: Mapping[Key, Artifact],
    corpus: Corpus,
    language: str,
    bench: Bench,
) -> Iterator[Row]:
    """Measure all bundles on a device.

    Args:
        experiment: Name of the experiment, for the rows.
        dataset: Name of the corpus, for the rows.
        session: The device.
        entries: Bundles by engine, precision and model name; for each engine and precision one called "dense".
        corpus: Its test splits are the test set.
        language: Target language.
        bench: How BLEU losses are resampled.

    Raises:
        InputError: A model has nothing to be compared with, or a bundle that a device cannot run.
        DeviceLostError: The device vanished and did not come back; the same call goes on.
        MachineError: The runner fails, or runs differ in what must be equal.
    """
    groups: dict[tuple[str, str], dict[str, Artifact]] = {}
    for (engine, precision, model), entry in entries.items():
        groups.setdefault((engine, precision), {})[model] = entry
    lacking = [f"{engine} {precision}" for (engine, precision), models in groups.items() if DENSE not in models]
    if lacking:
        raise InputError(
            "nothing to compare with",
            where=", ".join(lacking),
            wanted="a dense model of the same engine and precision",
            fix="give the dense model's bundle too",
        )
    for (engine, precision), models in groups.items():
        shared = {
            "experiment": experiment,
            "dataset": dataset,
            "split": quality.split_name(corpus),
            "engine": engine,
            "threads": session.settings.threads,
            "decode": "greedy",
            "device": session.device.name,
            "pin": session.settings.pin,
            "environment": session.environment(),
            "made_by": made_by(),
        }
        tests = _tests(session, engine, precision, models, corpus, language)
        outputs = {(precision, model): output for model, (_, output) in tests.items()}
        timed = _timed(session, engine, precision, models, corpus)
        for model, entry in models.items():
            memory = tests[model][0].journal
            assert memory.load is not None
            yield Row(
                **shared,
                engine_version=memory.load.engine_version,
                **comparison.facts((precision, model), entry),
                peak_memory_bytes=None if session.facts.emulated else memory.peak_bytes,
                **timed[model],
                **comparison.quality_fields(outputs, (precision, model), corpus, language, bench),
            )


def _tests(
    session: Session, engine: str, precision: str, models: Mapping[str, Artifact], corpus: Corpus, language: str
) -> dict[str, tuple[Pass, Output]]:
    """The whole test set once, which also tells the most memory that a model takes."""
    found = {}
    for model, entry in models.items():
        search, words = Search(**description.read(entry.path).search), plain_tokenizer.load(entry.path)
        given = quality.sources(corpus, words)
        full = [index for index, ids in enumerate(given) if not set(ids) <= {search.eos, search.pad}]
        sentences = [given[index] for index in full]
        done = session.run(entry, f"{engine}-{precision}-{model}-test", sentences, runs=len(sentences))
        translations: list[list[int]] = [[] for _ in given]
        for index, one in zip(full, done.journal.timed, strict=True):
            translations[index] = one.tokens
        found[model] = done, quality.scored(translations, corpus, language, words)
    return found


def _timed(
    session: Session, engine: str, precision: str, models: Mapping[str, Artifact], corpus: Corpus
) -> dict[str, dict[str, Any]]:
    """Cold starts in turn, the order rotated by one each time, as fields of result rows."""
    settings, names = session.settings, list(models)
    if session.facts.emulated:
        return {model: {"valid": {"ok": False, "reasons": ["emulated: not timed"]}} for model in names}
    passes = {model: list[Pass]() for model in names}
    # the same sentences for all, each model's in its own ids
    sentences = {
        model: quality.spread(corpus, settings.sentences, plain_tokenizer.load(entry.path))
        for model, entry in models.items()
    }
    runs = max(settings.runs, len(sentences[DENSE]))
    job = {"runs": runs, "warmup": settings.warmup, "seconds": settings.seconds}
    for turn in range(settings.cold_starts):
        shift = turn % len(names)
        for model in names[shift:] + names[:shift]:
            name = f"{engine}-{precision}-{model}-{turn}"
            passes[model].append(session.run(models[model], name, sentences[model], **job))
    refuse_unequal({model: [one.journal for one in done] for model, done in passes.items()}, session.device.name)
    times = _paired({model: [one.journal for one in done] for model, done in passes.items()})
    found = {}
    for model, done in passes.items():
        fields = timed_fields(times, model, DENSE, DENSE)
        fields["latency_ms"]["p99"] = float(np.percentile(times[model], 99))
        gates = [one.gate.reason for one in done if one.gate.reason and session.facts.kind == "phone"]
        reasons = [*fields["valid"]["reasons"], *dict.fromkeys(gates)]
        fields["valid"] = {"ok": not reasons, "reasons": reasons}
        journals = [one.journal for one in done]
        found[model] = fields | cold_starts.fields(journals) | energy.fields(journals)
        found[model]["gates"] = [asdict(one.gate) for one in done]
        if settings.sustained_minutes:
            name = f"{engine}-{precision}-{model}-sustained"
            long = session.run(models[model], name, sentences[model], runs=1, seconds=60 * settings.sustained_minutes)
            found[model]["sustained_ms"] = cold_starts.minutes(long.journal)
    return found


def refuse_unequal(journals: Mapping[str, Sequence[Journal]], where: str) -> None:
    """Refuse to compare runs that differ in what the runner itself says of pinning, threads, mode or engine.

    Raises:
        MachineError: They do.
    """
    said: dict[tuple[Any, ...], list[str]] = {}
    for model, done in journals.items():
        for one in done:
            assert one.start is not None and one.load is not None
            start, load = one.start, one.load
            key = start.mode, start.threads, tuple(start.cpus), load.engine, load.engine_version
            said.setdefault(key, []).append(model)
    if len(said) > 1:
        raise MachineError(
            "these runs cannot be compared",
            where=where,
            problems=[
                f"{', '.join(dict.fromkeys(models))}: {engine} {version} {mode}, threads {threads}, "
                f"processors {','.join(map(str, cpus))}"
                for (mode, threads, cpus, engine, version), models in said.items()
            ],
            fix="measure them in one session that nothing changes in between",
        )


def _paired(journals: Mapping[str, Sequence[Journal]]) -> dict[str, NDArray[np.float64]]:
    """(processes x sentences) ms by model: as many sentences as the slowest one did."""
    shortest = min(len(one.timed) for done in journals.values() for one in done)
    return {
        model: np.array([[line.total_ns / 1e6 for line in one.timed[:shortest]] for one in done])
        for model, done in journals.items()
    }
