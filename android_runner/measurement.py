"""Dense against pruned on one device: latency in turn, memory and quality in passes of their own, as result rows.

What is compared ran with the same pinning, threads, engine and precision, or is not compared.
"""

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tprune.android_runner import cold_starts, energy, readings
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
LONGEST_WORD = 100  # of 255 bytes that a file's name may have


@dataclass(frozen=True)
class Tested:
    """The whole test set, translated by one model.

    Attributes:
        journal: Of the pass.
        output: What came out, and its scores.
        translations: Target ids by source ids.
    """

    journal: Journal
    output: Output
    translations: Mapping[tuple[int, ...], Sequence[int]]


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
        MachineError: The runner fails, or passes differ in what must be equal: the error names where they are kept.
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
        outputs = {(precision, model): tested.output for model, tested in tests.items()}
        timed = _timed(session, engine, precision, models, corpus, tests)
        for model, entry in models.items():
            memory = tests[model].journal
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
) -> dict[str, Tested]:
    """The whole test set once, which also tells the most memory that a model takes."""
    found = {}
    for model, entry in models.items():
        search, words = Search(**description.read(entry.path).search), plain_tokenizer.load(entry.path)
        given = quality.sources(corpus, words)
        full = [index for index, ids in enumerate(given) if not set(ids) <= {search.eos, search.pad}]
        sentences = [given[index] for index in full]
        done = session.run(entry, f"{word_of(engine, precision, model)}-test", sentences, runs=len(sentences))
        translations: list[list[int]] = [[] for _ in given]
        for index, one in zip(full, done.journal.timed, strict=True):
            translations[index] = one.tokens
        by_source = {tuple(ids): translated for ids, translated in zip(given, translations, strict=True)}
        found[model] = Tested(done.journal, quality.scored(translations, corpus, language, words), by_source)
    return found


def _timed(
    session: Session,
    engine: str,
    precision: str,
    models: Mapping[str, Artifact],
    corpus: Corpus,
    tests: Mapping[str, Tested],
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
            name = f"{word_of(engine, precision, model)}-{turn}"
            passes[model].append(session.run(models[model], name, sentences[model], **job))
    refuse_unequal(
        {model: [tests[model].journal, *(one.journal for one in done)] for model, done in passes.items()},
        session.device.name,
        f"delete {session.folder} and run the same command again, and let nothing change on the device meanwhile",
    )
    times = _paired({model: [one.journal for one in done] for model, done in passes.items()})
    found = {}
    for model, done in passes.items():
        fields = timed_fields(times, model, DENSE, DENSE if precision == "fp32" else f"{DENSE} {precision}")
        fields["latency_ms"]["p99"] = float(np.percentile(times[model], 99))
        doubts = [one.gate.reason for one in done if one.gate.reason and session.facts.kind == "phone"]
        journals = [one.journal for one in done]
        found[model] = fields | cold_starts.fields(journals) | energy.fields(journals) | readings.fields(journals)
        found[model]["gates"] = [asdict(one.gate) for one in done]
        if session.facts.kind == "sbc" and session.cpus and (slow := readings.slowed(journals)):
            doubts.append(slow)
        if settings.sustained_minutes:
            name = f"{word_of(engine, precision, model)}-sustained-{settings.sustained_minutes:g}"
            long = session.run(models[model], name, sentences[model], runs=1, seconds=60 * settings.sustained_minutes)
            found[model]["sustained_ms"] = cold_starts.minutes(long.journal)
            found[model]["sustained_gate"] = asdict(long.gate)
            journals.append(long.journal)
        reasons = [*fields["valid"]["reasons"], *dict.fromkeys(doubts)]
        if wrong := wrong_outputs(journals, sentences[model], tests[model].translations):
            reasons.append(wrong)
        found[model]["valid"] = {"ok": not reasons, "reasons": reasons}
    return found


def word_of(*parts: str) -> str:
    """One word of these, for files here and on a device, where no name may have blanks or signs that a shell reads.

    The user calls bundles as they like: what stands for another sign or is cut off is told apart by a hash.
    """
    name = "-".join(parts)
    word = re.sub(r"[^A-Za-z0-9._+-]", "_", name)[:LONGEST_WORD]
    return word if word == name else f"{word}-{hashlib.sha256(name.encode(errors='surrogateescape')).hexdigest()[:8]}"


def wrong_outputs(
    journals: Sequence[Journal],
    sentences: Sequence[Sequence[int]],
    translations: Mapping[tuple[int, ...], Sequence[int]],
) -> str | None:
    """Why times may not be quoted: what was timed is not the translation that was scored.

    Args:
        journals: Of a model's timed passes.
        sentences: Their source ids.
        translations: Target ids by source ids, as the test pass found them.
    """
    looked = [(translations.get(tuple(sentences[one.index])), one.tokens) for run in journals for one in run.timed]
    wrong = sum(wanted is not None and wanted != tokens for wanted, tokens in looked)
    return f"{wrong} of {len(looked)} timed sentences came out otherwise than in the test pass" if wrong else None


def refuse_unequal(
    journals: Mapping[str, Sequence[Journal]],
    where: str,
    fix: str = "measure them in one session that nothing changes in between",
) -> None:
    """Refuse to compare runs that differ in what the runner itself says of pinning, threads, mode or engine.

    Args:
        journals: By model.
        where: Which device, for the error.
        fix: What the user can do about it.

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
            fix=fix,
        )


def _paired(journals: Mapping[str, Sequence[Journal]]) -> dict[str, NDArray[np.float64]]:
    """(processes x sentences) ms by model: as many sentences as the slowest one did."""
    shortest = min(len(one.timed) for done in journals.values() for one in done)
    return {
        model: np.array([[line.total_ns / 1e6 for line in one.timed[:shortest]] for one in done])
        for model, done in journals.items()
    }
