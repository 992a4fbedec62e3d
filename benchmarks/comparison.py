"""Dense against pruned, on every engine and thread count of this machine: one list of result rows.

Latency is that of one sentence at a time, dense and pruned in turn in one process; BLEU is scored
on what each engine itself put out for the whole test set.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from typing import Any

import numpy as np
import torch

from tprune.artifact import Artifact
from tprune.benchmarks import latency, quality, record, stats
from tprune.benchmarks.quality import Output
from tprune.benchmarks.record import DENSE, Row
from tprune.config import Bench
from tprune.errors import InputError
from tprune.export import description, runtime
from tprune.model import checkpoint
from tprune.model.decode import greedy
from tprune.model.engine import Engine, TorchEngine
from tprune.model.search import Search
from tprune.provenance import made_by
from tprune.text.corpus import Corpus

Tell = Callable[[str], None]
PYTORCH = "pytorch"
MOST_DRIFT = 0.5  # of a round's median from the median of all rounds
MOST_SPREAD = 0.2  # of a speedup: width of its 95 % interval
VERSIONS = {PYTORCH: "torch", "onnxruntime": "onnxruntime", "executorch": "executorch"}


def compare(
    experiment: str,
    dataset: str,
    entries: Mapping[tuple[str, str], Artifact],
    corpus: Corpus,
    language: str,
    settings: Bench,
    tell: Tell,
) -> Iterator[Row]:
    """Measure all models on all engines.

    Args:
        experiment: Name of the experiment, for the rows.
        dataset: Name of the corpus, for the rows.
        entries: Checkpoints (engine "pytorch") and bundles by engine and model name; every engine
            has a model called "dense", the baseline.
        corpus: Its test splits are the test set.
        language: Target language.
        settings: Threads, sentences, rounds.
        tell: Gets a line before each part.

    Raises:
        InputError: An engine has no dense model to compare with.
    """
    names = {engine: [model for other, model in entries if other == engine] for engine, _ in entries}
    if lacking := [engine for engine, models in names.items() if DENSE not in models]:
        raise InputError(
            "nothing to compare with",
            where=", ".join(lacking),
            wanted="a dense model among them",
            fix="give the dense model too",
        )
    for engine, models in names.items():
        made = {model: entries[engine, model] for model in models}
        shared = {
            "experiment": experiment,
            "dataset": dataset,
            "split": quality.split_name(corpus),
            "seed": settings.seed,
            "engine": engine,
            "precision": "fp32",
            "engine_version": version(VERSIONS[engine]),
            "environment": record.environment(),
            "made_by": made_by(),
        }
        yield from _greedy_rows(shared, engine, made, corpus, language, settings, tell)
        if engine == PYTORCH:  # the search is the same on every engine, so one engine tells what a beam brings
            yield from _beam_rows(shared, made, corpus, language, settings, tell)


def _greedy_rows(
    shared: Mapping[str, Any],
    engine: str,
    made: Mapping[str, Artifact],
    corpus: Corpus,
    language: str,
    settings: Bench,
    tell: Tell,
) -> Iterator[Row]:
    outputs: dict[str, Output] = {}
    timed = _timed_sentences(corpus, settings.sentences)
    for threads in settings.threads:
        opened = {model: open_entry(engine, entry, threads) for model, entry in made.items()}
        for model, (runs, search) in opened.items():
            if model not in outputs:
                tell(f"BLEU of {model} on {engine}")
                outputs[model] = quality.translate_tests(runs, corpus, search, language)
        tell(f"latency on {engine}, threads: {threads}")
        samples = latency.time_in_turn(
            {model: _translate_one(runs, search) for model, (runs, search) in opened.items()},
            timed,
            rounds=settings.rounds,
            warmup=settings.warmup,
        )
        times = {model: sample.milliseconds for model, sample in samples.items()}
        for model, entry in made.items():
            yield Row(
                **shared,
                **_facts(model, entry),
                threads=threads,
                decode="greedy",
                **_latency(times, model),
                **_quality(outputs, model, corpus, language, settings),
            )


def _beam_rows(
    shared: Mapping[str, Any], made: Mapping[str, Artifact], corpus: Corpus, language: str, settings: Bench, tell: Tell
) -> Iterator[Row]:
    outputs: dict[str, Output] = {}
    for model, entry in made.items():
        tell(f"BLEU of {model} with beam {settings.beam}")
        runs, search = open_entry(PYTORCH, entry, max(settings.threads))
        outputs[model] = quality.translate_tests(runs, corpus, replace(search, beams=settings.beam), language)
    for model, entry in made.items():
        yield Row(
            **shared,
            **_facts(model, entry),
            decode=f"beam{settings.beam}",
            valid={"ok": True},
            **_quality(outputs, model, corpus, language, settings),
        )


def open_entry(engine: str, entry: Artifact, threads: int) -> tuple[Engine, Search]:
    """Open a checkpoint or a bundle with its own search settings."""
    if engine == PYTORCH:
        torch.set_num_threads(threads)
        model = checkpoint.load(entry.path)
        return TorchEngine(model), Search.of(model)
    return runtime.open_bundle(entry.path, threads), Search(**description.read(entry.path).search)


def _latency(times: Mapping[str, np.ndarray[Any, Any]], model: str) -> dict[str, Any]:
    milliseconds = times[model]
    found = stats.percentiles(milliseconds)
    # A shared machine's speed drifts; the two models in turn share the drift, and the ratio's interval shows what is
    # left of it. So the ratio is judged by its interval, and only a time by itself by its drift.
    doubts = stats.doubts(milliseconds, most_drift=MOST_DRIFT)
    row: dict[str, Any] = {}
    if model != DENSE:
        ratio = stats.speedup(times[DENSE], milliseconds)
        row = {"baseline": DENSE, "speedup": ratio.ratio, "speedup_lower": ratio.lower, "speedup_upper": ratio.upper}
        doubts += [f"dense: {doubt}" for doubt in stats.doubts(times[DENSE], most_drift=MOST_DRIFT)]
        if ratio.lower is None or ratio.upper is None or ratio.upper - ratio.lower > MOST_SPREAD * ratio.ratio:
            doubts.append(f"the speedup's 95 % interval is wider than {MOST_SPREAD:.0%} of it")
    return row | {
        "latency_ms": {"p50": found.p50, "p90": found.p90, "samples": milliseconds.flatten().round(4).tolist()},
        "valid": {"ok": not doubts, "reasons": doubts},
    }


def _quality(
    outputs: Mapping[str, Output], model: str, corpus: Corpus, language: str, settings: Bench
) -> dict[str, Any]:
    own = outputs[model]
    row: dict[str, Any] = {
        "bleu": own.pooled.bleu,
        "bleu_signature": own.pooled.bleu_signature,
        "chrf": own.pooled.chrf,
        "chrf_signature": own.pooled.chrf_signature,
        "brevity_penalty": own.pooled.brevity_penalty,
        "length_ratio": own.pooled.length_ratio,
        "bleu_by_split": own.by_split,
        "target_tokens": own.target_tokens,
        "hypotheses_sha256": own.digest,
    }
    if model != DENSE and outputs[DENSE].pooled.bleu > 0:  # nothing is left to lose of a BLEU of 0
        lost = quality.loss(outputs[DENSE], own, corpus, language, resamples=settings.bootstrap, seed=settings.seed)
        row |= {"bleu_loss_percent": lost.percent, "bleu_loss_upper_percent": lost.upper_percent}
    return row


def _timed_sentences(corpus: Corpus, count: int) -> list[list[int]]:
    """`count` test sentences, evenly spread over the test set."""
    ids = quality.sources(corpus)
    return [ids[index] for index in np.linspace(0, len(ids) - 1, min(count, len(ids))).round().astype(int)]


def _translate_one(engine: Engine, search: Search) -> Callable[[Sequence[int]], list[int]]:
    def translate(source: Sequence[int]) -> list[int]:
        ids = np.asarray([source], dtype=np.int64)
        return greedy(engine, ids, np.ones_like(ids), search)[0]

    return translate


def _facts(model: str, entry: Artifact) -> dict[str, Any]:
    if entry.kind == "model":
        parameters = sum(int(np.prod(shape)) for shape in checkpoint.weight_shapes(entry.path).values())
    else:
        parameters = description.read(entry.path).parameters
    return {"model": model, "parameters": parameters, "size_bytes": _size(entry)}


def _size(entry: Artifact) -> int:
    """Bytes of what an engine reads: weights and graphs, not the tokenizer."""
    names = (
        ("model.safetensors",)
        if entry.kind == "model"
        else {graph.file for graph in description.read(entry.path).graphs.values()}
    )
    return sum(
        facts["bytes"] for name, facts in entry.manifest["files"].items() if name in names or name.endswith(".data")
    )
