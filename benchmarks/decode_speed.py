"""How fast the engines decode one dense model, against CTranslate2 at the same precision, in turn in one run.

Run as `python -m tprune.benchmarks.decode_speed base OUT.json`, or `tiny`, or with a trained model and its corpus
`python -m tprune.benchmarks.decode_speed MODEL OUT.json CORPUS`. Random models translate 20 random tokens into 25.
CTranslate2 comes with `pip install -e '.[peers]'`.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from tprune import artifact
from tprune.artifact import Artifact
from tprune.benchmarks import floor, latency, quality, record
from tprune.benchmarks.peers import ct2
from tprune.benchmarks.ratios import timed_fields
from tprune.benchmarks.record import DENSE, Row
from tprune.config import Export
from tprune.export import description, runtime
from tprune.export.bundle import PRECISIONS, export
from tprune.model import checkpoint
from tprune.model.decode import one_by_one
from tprune.model.search import Search
from tprune.model.shape import dense_config
from tprune.model.transformer import TPruneForConditionalGeneration
from tprune.progress import tell
from tprune.provenance import made_by
from tprune.text.corpus import open_corpus

SIZES: Mapping[str, Mapping[str, int]] = {
    "base": {
        "d_model": 512,
        "heads": 8,
        "ffn": 2048,
        "encoder_layers": 6,
        "decoder_layers": 6,
        "vocab_size": 32000,
    },
    "tiny": {
        "d_model": 256,
        "heads": 4,
        "ffn": 1024,
        "encoder_layers": 3,
        "decoder_layers": 3,
        "vocab_size": 8000,
    },
}
SOURCE, TARGET = 20, 25  # tokens of the random models' sentences
RANDOM_SENTENCES, REAL_SENTENCES, WARMUP = 4, 40, 2
ROUNDS, SECONDS = 13, 1.0  # at least, of each candidate; 13 rounds of 4 sentences are 52 samples
THREADS = (1, 2)
ENGINES = ("onnxruntime", "executorch")
PEER = "ctranslate2"

Candidate = tuple[str, str]  # engine and precision
Translate = Callable[[Sequence[int]], list[int]]


def measure(name: str, model: Artifact, sentences: Sequence[Sequence[int]], new_tokens: int | None) -> list[Row]:
    """Export the model for every engine and precision, and time all of them in turn.

    Args:
        name: Of the model, for the experiment's name.
        model: A dense model.
        sentences: Source ids.
        new_tokens: Length of every translation; None: as long as it wants.
    """
    with TemporaryDirectory() as scratch:
        folder = Path(scratch)
        loaded = checkpoint.load(model.path)
        sizes: dict[Candidate, int] = {}
        for precision in PRECISIONS:
            for engine in ENGINES:
                tell(f"export {engine} {precision}")
                made = export(model.path, folder / engine / precision, engine, Export(), precision=precision)
                sizes[engine, precision] = _bytes(made.path, "*.onnx*", "*.pte")
            tell(f"convert {PEER} {precision}")
            (folder / PEER).mkdir(exist_ok=True)
            ct2.convert(loaded, folder / PEER / precision, precision)
            sizes[PEER, precision] = _bytes(folder / PEER / precision, "model.bin")
        rows = []
        for threads in THREADS:
            tell(f"latency, threads: {threads}")
            opened = {key: _open(folder, *key, threads, loaded, new_tokens) for key in sizes}
            samples = latency.time_in_turn(opened, sentences, rounds=ROUNDS, seconds=SECONDS, warmup=WARMUP)
            times = {key: sample.milliseconds for key, sample in samples.items()}
            work = floor.work(loaded)
            machines = {
                precision: floor.measure(work.weights_step * floor.BYTES[precision], threads)
                for precision in PRECISIONS
            }
            for engine, precision in opened:
                outputs, expected = samples[engine, precision].outputs, samples[PEER, precision].outputs
                target = float(np.mean([len(ids) for ids in outputs]))
                source = float(np.mean([len(ids) for ids in sentences]))
                bounds = work.floor_ms(machines[precision], precision, source, target + (new_tokens is None))
                rows.append(
                    Row(
                        experiment=f"decode-{name}",
                        dataset="random" if new_tokens else name,
                        split="test",
                        model=DENSE,
                        engine=engine,
                        engine_version=version(engine),
                        precision=precision,
                        threads=threads,
                        decode="greedy",
                        environment=record.environment(),
                        parameters=loaded.num_parameters(),
                        size_bytes=sizes[engine, precision],
                        target_tokens=target,
                        same_as_peer=float(np.mean([a == b for a, b in zip(outputs, expected, strict=True)])),
                        **bounds,
                        made_by=made_by(),
                        **timed_fields(times, (engine, precision), (PEER, precision), PEER),
                    )
                )
    return rows


def _open(
    folder: Path,
    engine: str,
    precision: str,
    threads: int,
    model: TPruneForConditionalGeneration,
    new_tokens: int | None,
) -> Translate:
    if engine == PEER:
        search = Search.of(model, max_new_tokens=new_tokens)
        return ct2.open_translator(folder / PEER / precision, threads, precision, search)
    path = folder / engine / precision
    opened = runtime.open_bundle(path, threads)
    search = replace(Search(**description.read(path).search), max_new_tokens=new_tokens)
    return one_by_one(opened, search)


def _random_model(size: str, out: Path) -> Artifact:
    torch.manual_seed(0)
    with artifact.create(out, "model", config=dict(SIZES[size])) as partial:
        checkpoint.save(TPruneForConditionalGeneration(dense_config(**SIZES[size])), partial)
    return artifact.read(out, "model")


def _bytes(folder: Path, *patterns: str) -> int:
    return sum(path.stat().st_size for pattern in patterns for path in folder.glob(pattern))


def _main(named: str, out: Path, *corpus: str) -> None:
    if named in SIZES:
        chance = np.random.default_rng(0)
        sentences: Any = chance.integers(4, SIZES[named]["vocab_size"], (RANDOM_SENTENCES, SOURCE)).tolist()
        with TemporaryDirectory() as scratch:
            rows = measure(named, _random_model(named, Path(scratch) / "model"), sentences, TARGET)
    else:
        text = open_corpus(artifact.read(Path(corpus[0]), "corpus"))
        rows = measure(out.stem, artifact.read(Path(named), "model"), quality.spread(text, REAL_SENTENCES), None)
    record.write(out, rows)
    for row in rows:
        assert row.latency_ms is not None
        ratio = f", {1 / row.speedup:.3f} of {PEER}" if row.speedup else ""
        over = row.latency_ms.p50 / row.floor_ms  # type: ignore[attr-defined]
        tell(f"{row.engine} {row.precision} {row.threads}: {row.latency_ms.p50:.2f} ms, {over:.2f} of the floor{ratio}")


if __name__ == "__main__":
    _main(sys.argv[1], Path(sys.argv[2]), *sys.argv[3:])
