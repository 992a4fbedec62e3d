"""Sentences per second of a test set in batches of like length, against CTranslate2 in the same arithmetic, in turn.

Run as `python -m tprune.benchmarks.throughput MODEL CORPUS OUT.json`.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from tprune import artifact
from tprune.artifact import Artifact
from tprune.benchmarks import latency, quality, record, stats
from tprune.benchmarks.comparison import open_entry
from tprune.benchmarks.lineup import Contestant, line_up
from tprune.benchmarks.peers import ct2, ct2_format
from tprune.benchmarks.ratios import ratio_fields, unequal_work
from tprune.benchmarks.record import DENSE, Row
from tprune.delivery_config import PYTORCH
from tprune.entry import script
from tprune.learn.compatibility import open_for
from tprune.model import checkpoint
from tprune.model.decode import translate
from tprune.model.search import Search
from tprune.progress import tell

BATCH, ROUNDS, SECONDS = 32, stats.LEAST_ROUNDS, 3.0
THREADS = (1, 2)
ENGINES = (PYTORCH, "onnxruntime")
PEER = ct2_format.PEER.name

TranslateAll = Callable[[Sequence[Sequence[int]]], list[list[int]]]


def measure(
    name: str,
    dataset: str,
    split: str,
    model: Artifact,
    sentences: Sequence[Sequence[int]],
    *,
    engines: Sequence[str] = ENGINES,
    rounds: int = ROUNDS,
    seconds: float = SECONDS,
) -> list[Row]:
    """Time whole passes over the sentences, greedy, in turn.

    Args:
        name: Of the experiment.
        dataset: Name of the corpus, for the rows.
        split: Name of the sentences in it, for the rows.
        model: A dense model.
        sentences: Source ids.
        engines: Those of ours.
        rounds: Least number of passes of each.
        seconds: Least time of each in all its passes.
    """
    search = Search.of(checkpoint.load(model.path))
    # CTranslate2 knows one limit for a batch, so all have it
    search, rows = replace(search, max_new_tokens=search.max_length(max(map(len, sentences)))), []
    with TemporaryDirectory() as scratch:
        contestants = list(line_up(model, Path(scratch), engines, [ct2_format.PEER]))
        for threads in THREADS:
            tell(f"throughput, threads: {threads}")
            opened = {one.key: _open(one, threads, search) for one in contestants}
            samples = latency.time_in_turn(opened, [sentences], rounds=rounds, seconds=seconds)
            times = {key: sample.milliseconds for key, sample in samples.items()}
            for one in contestants:
                (found,), (expected,) = samples[one.key].outputs, samples[PEER, one.arithmetic, DENSE].outputs
                speeds = 1000 * len(sentences) / times[one.key].flatten()
                rows.append(
                    Row(
                        experiment=name,
                        dataset=dataset,
                        split=split,
                        **one.facts(threads),
                        batch_size=BATCH,
                        sentences=len(sentences),
                        sentences_per_second={"p50": float(np.median(speeds)), "samples": speeds.round(3).tolist()},
                        target_tokens=float(np.mean([len(ids) for ids in found])),
                        same_as_peer=float(np.mean([a == b for a, b in zip(found, expected, strict=True)])),
                        **ratio_fields(
                            times,
                            one.key,
                            (PEER, one.arithmetic, DENSE),
                            PEER,
                            least_samples=stats.LEAST_ROUNDS,
                            doubts=unequal_work(found, expected, one.precision),
                        ),
                    )
                )
    return rows


def _open(one: Contestant, threads: int, search: Search) -> TranslateAll:
    if one.peer is not None:
        translator = ct2.open_model(one.path, threads, one.precision)
        limit = search.max_new_tokens or search.limit
        return lambda sentences: ct2.translate(translator, sentences, limit, search.banned, BATCH)
    engine, own = open_entry(one.engine, artifact.read(one.path), threads)
    return lambda sentences: translate(engine, sentences, replace(own, max_new_tokens=search.max_new_tokens), BATCH)


def _main(model: Path, corpus: Path, out: Path) -> None:
    text = artifact.read(corpus, "corpus")
    given = artifact.read(model, "model")
    opened = open_for(text, given)
    rows = measure(
        out.stem,
        quality.dataset_name(text),
        quality.split_name(opened),
        given,
        quality.sources(opened),
    )
    record.write(out, rows)
    for row in rows:
        speed = row.sentences_per_second["p50"]  # type: ignore[attr-defined]
        ratio = f", {row.speedup:.2f}x {PEER}" if row.speedup else ""
        tell(f"{row.engine} {row.precision} {row.threads}: {speed:.1f} sentences/s{ratio}")


if __name__ == "__main__":
    script(_main)
