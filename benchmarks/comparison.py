"""Dense against pruned, on every engine and thread count of this machine: one list of result rows.

Latency is that of one sentence at a time, dense and pruned in turn in one process; BLEU is scored
on what each engine itself put out for the whole test set.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tprune.artifact import Artifact
from tprune.benchmarks import latency, quality, record
from tprune.benchmarks.quality import Output
from tprune.benchmarks.ratios import timed_fields
from tprune.benchmarks.record import DENSE, Row
from tprune.delivery_config import PYTORCH, Bench
from tprune.export import description, runtime
from tprune.model import checkpoint
from tprune.model.decode import one_by_one
from tprune.model.engine import Engine
from tprune.model.search import Search
from tprune.model.torch_engine import TorchEngine
from tprune.provenance import made_by, seed
from tprune.text import plain_tokenizer
from tprune.text.corpus import Corpus

Tell = Callable[[str], None]
Variant = tuple[str, str]  # precision and model name
VERSIONS = {PYTORCH: "torch", "onnxruntime": "onnxruntime", "executorch": "executorch"}


def compare(
    experiment: str,
    dataset: str,
    entries: Mapping[tuple[str, str, str], Artifact],
    corpus: Corpus,
    language: str,
    settings: Bench,
    scratch: Path,
    tell: Tell,
) -> Iterator[Row]:
    """Measure all models on all engines.

    What an engine runs is timed in turn, whatever its precision, and compared with the dense model in fp32. An engine
    with one search is a pass: its rows are a file in `scratch`, and a pass that is there is not run again.

    Args:
        experiment: Name of the experiment, for the rows.
        dataset: Name of the corpus, for the rows.
        entries: Checkpoints (engine "pytorch") and bundles by engine, precision and model name; every engine
            has a model called "dense", the baseline: in fp32, or else in the precision it is there.
        corpus: Its test splits are the test set.
        language: Target language.
        settings: Threads, sentences, least rounds and seconds.
        scratch: Folder of these models, text and settings alone.
        tell: Gets a line before each part.
    """
    by_engine: dict[str, dict[Variant, Artifact]] = {}
    for (engine, precision, model), entry in entries.items():
        by_engine.setdefault(engine, {})[precision, model] = entry
    threads = torch.get_num_threads()
    try:
        for engine, made in by_engine.items():
            shared = {
                "experiment": experiment,
                "dataset": dataset,
                "split": quality.split_name(corpus),
                "engine": engine,
                "engine_version": version(VERSIONS[engine]),
                "environment": record.environment(),
                "made_by": made_by(),
            }
            timed = {1: True, settings.beam: True} if engine in settings.beam_engines else {1: True}
            if engine == PYTORCH:  # the search is the same on every engine: one tells what a beam brings
                timed.setdefault(settings.beam, False)
            for beams, is_timed in timed.items():
                saved = scratch / f"rows {engine} {_decode(beams)}.json"
                if not saved.exists():
                    measured = _timed_rows if is_timed else _untimed_rows
                    record.write(saved, measured(shared, engine, made, corpus, language, settings, tell, beams))
                yield from record.read(saved)
    finally:
        torch.set_num_threads(threads)  # which what is trained next in this process depends on


def _timed_rows(
    shared: Mapping[str, Any],
    engine: str,
    made: Mapping[Variant, Artifact],
    corpus: Corpus,
    language: str,
    settings: Bench,
    tell: Tell,
    beams: int,
) -> Iterator[Row]:
    decode = _decode(beams)
    outputs: dict[Variant, Output] = {}
    words = {variant: plain_tokenizer.load(entry.path) for variant, entry in made.items()}
    timed = {variant: quality.spread(corpus, settings.sentences, own) for variant, own in words.items()}
    for threads in settings.threads:
        opened = {variant: open_entry(engine, entry, threads, beams) for variant, entry in made.items()}
        for variant, (runs, search) in opened.items():
            if variant not in outputs:
                tell(f"BLEU of {' '.join(variant)} on {engine}, {decode}")
                outputs[variant] = quality.translate_tests(
                    runs, corpus, search, language, words=words[variant], batch_size=_batch_size(made[variant])
                )
        tell(f"latency on {engine}, threads: {threads}, {decode}")
        samples = latency.time_in_turn(
            {variant: latency.by_index(one_by_one(*entry), timed[variant]) for variant, entry in opened.items()},
            range(min(map(len, timed.values()))),
            rounds=settings.rounds,
            seconds=settings.seconds,
            most_rounds=settings.most_rounds,
            warmup=settings.warmup,
        )
        times, baseline = {variant: sample.milliseconds for variant, sample in samples.items()}, _baseline(made)
        for variant, entry in made.items():
            yield Row(
                **shared,
                **facts(variant, entry),
                threads=threads,
                decode=decode,
                **timed_fields(times, variant, baseline, DENSE if baseline[0] == "fp32" else f"{DENSE} {baseline[0]}"),
                **quality_fields(outputs, variant, corpus, language, settings),
            )


def _untimed_rows(
    shared: Mapping[str, Any],
    engine: str,
    made: Mapping[Variant, Artifact],
    corpus: Corpus,
    language: str,
    settings: Bench,
    tell: Tell,
    beams: int,
) -> Iterator[Row]:
    outputs: dict[Variant, Output] = {}
    for variant, entry in made.items():
        tell(f"BLEU of {' '.join(variant)} on {engine}, {_decode(beams)}")
        runs, search = open_entry(engine, entry, max(settings.threads), beams)
        outputs[variant] = quality.translate_tests(
            runs, corpus, search, language, words=plain_tokenizer.load(entry.path)
        )
    for variant, entry in made.items():
        yield Row(
            **shared,
            **facts(variant, entry),
            decode=_decode(beams),
            valid={"ok": True},
            **quality_fields(outputs, variant, corpus, language, settings),
        )


def open_entry(engine: str, entry: Artifact, threads: int, beams: int = 1) -> tuple[Engine, Search]:
    """Open a checkpoint or a bundle with its own search settings, and so many beams."""
    if engine == PYTORCH:
        torch.set_num_threads(threads)
        model = checkpoint.load(entry.path)
        return TorchEngine(model), replace(Search.of(model), beams=beams)
    search = Search(**description.read(entry.path).search)
    return runtime.open_bundle(entry.path, threads), replace(search, beams=beams)


def _decode(beams: int) -> str:
    """What a row calls the search."""
    return "greedy" if beams == 1 else f"beam{beams}"


def _baseline(variants: Collection[Variant]) -> Variant:
    """The dense model, in fp32 if it is there."""
    return min((variant for variant in variants if variant[1] == DENSE), key=lambda variant: variant[0] != "fp32")


def quality_fields(
    outputs: Mapping[Variant, Output], variant: Variant, corpus: Corpus, language: str, settings: Bench
) -> dict[str, Any]:
    """BLEU of one candidate and its loss against the dense one, as fields of a result row."""
    own, baseline = outputs[variant], _baseline(outputs)
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
    if variant != baseline and outputs[baseline].pooled.bleu > 0:  # nothing is left to lose of a BLEU of 0
        lost = quality.loss(outputs[baseline], own, corpus, language, resamples=settings.bootstrap, seed=settings.seed)
        row |= {
            "bleu_loss_percent": lost.percent,
            "bleu_loss_upper_percent": lost.upper_percent,
            "bootstrap_seed": settings.seed,
        }
    return row


def facts(variant: Variant, entry: Artifact) -> dict[str, Any]:
    """What a model is and how large, as fields of a result row."""
    if entry.kind == "model":
        parameters = sum(int(np.prod(shape)) for shape in checkpoint.weight_shapes(entry.path).values())
        drawn = seed(entry.manifest["config"])
    else:
        said = description.read(entry.path)
        parameters, drawn = said.parameters, said.seed
    precision, model = variant
    return {
        "model": model,
        "precision": precision,
        "seed": drawn,
        **hashes(entry),
        "parameters": parameters,
        "size_bytes": size_bytes(entry),
    }


def hashes(entry: Artifact) -> dict[str, str]:
    """Identities of a checkpoint, or of a bundle and the checkpoint that it was made from, as fields of a row."""
    if entry.kind == "model":
        return {"model_hash": entry.identity}
    return {"model_hash": entry.manifest["parents"]["model"]["identity"], "bundle_hash": entry.identity}


def _batch_size(entry: Artifact) -> int:
    """Sentences translated together for BLEU, which must not depend on which ones are together."""
    alone = entry.kind == "bundle" and description.read(entry.path).one_by_one
    return 1 if alone else quality.BATCH_SIZE


def size_bytes(entry: Artifact) -> int:
    """Bytes of what an engine reads: weights and graphs, not the tokenizer."""
    names = (
        ("model.safetensors",)
        if entry.kind == "model"
        else {graph.file for graph in description.read(entry.path).graphs.values()}
    )
    return sum(
        file["bytes"] for name, file in entry.manifest["files"].items() if name in names or name.endswith(".data")
    )
