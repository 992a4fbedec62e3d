"""What a model costs besides its speed: size on disk, time to load, time to the first token, memory.

Run as `python -m tprune.benchmarks.footprint MODEL CORPUS OUT.json`: every engine and precision, and CTranslate2, in
processes of their own, one after the other in turn. The files are in the page cache, as after any recent use.
"""

import json
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from tprune import artifact
from tprune.artifact import Artifact
from tprune.benchmarks import quality, record
from tprune.benchmarks.lineup import Candidate, Contestant, line_up
from tprune.benchmarks.peers import ct2_format
from tprune.benchmarks.record import Row
from tprune.delivery_config import PYTORCH
from tprune.entry import script
from tprune.errors import MachineError
from tprune.learn.compatibility import open_for
from tprune.model import checkpoint
from tprune.model.search import Search
from tprune.progress import tell

ENGINES = (PYTORCH, "onnxruntime", "executorch")
PROCESSES, THREADS = 3, 1
LEAST_PROCESSES, MOST_SPREAD = 3, 0.5  # of the whole time to the first token: (longest - shortest) / median


def measure(
    name: str,
    dataset: str,
    model: Artifact,
    source: Sequence[int],
    *,
    engines: Sequence[str] = ENGINES,
    processes: int = PROCESSES,
) -> list[Row]:
    """Start fresh processes that translate one sentence.

    Args:
        name: Of the experiment.
        dataset: Name of the sentence's corpus, for the rows.
        model: A dense model.
        source: Ids of the sentence.
        engines: Those of ours.
        processes: How many of each, besides a first one that is not counted.
    """
    search = Search.of(checkpoint.load(model.path))
    with TemporaryDirectory() as scratch:
        contestants = list(line_up(model, Path(scratch), engines, [ct2_format.PEER]))
        samples: dict[Candidate, list[Mapping[str, Any]]] = {one.key: [] for one in contestants}
        for turn in range(1 + processes):
            tell(f"fresh processes, round {turn} of {processes}")
            for one in contestants:
                took = _process(one, source, search)
                if turn:
                    samples[one.key].append(took)
    return [
        Row(
            experiment=name,
            dataset=dataset,
            split="test",
            **one.facts(THREADS),
            source_tokens=len(source),
            **fields(samples[one.key]),
        )
        for one in contestants
    ]


def fields(samples: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Medians and raw samples of what the processes told, and whether they may be quoted; see `fresh.run`."""
    memory = [{"engine_memory_bytes": one["peak_memory_bytes"] - one["imports_memory_bytes"]} for one in samples]
    figures = [
        {key: value for key, value in one.items() if key.endswith(("_ms", "_bytes"))} | own
        for one, own in zip(samples, memory, strict=True)
    ]
    found: dict[str, Any] = {
        key: {"p50": float(np.median([one[key] for one in figures])), "samples": [one[key] for one in figures]}
        for key in figures[0]
    }
    reasons = []
    if len(samples) < LEAST_PROCESSES:
        reasons.append(f"{len(samples)} processes, at least {LEAST_PROCESSES} wanted")
    whole = found["whole_first_token_ms"]
    spread = float(np.ptp(whole["samples"]) / whole["p50"])
    if spread > MOST_SPREAD:
        reasons.append(f"times to the first token lie {spread:.0%} apart, at most {MOST_SPREAD:.0%} wanted")
    if len({tuple(one["translation"]) for one in samples}) > 1:
        reasons.append("the processes translate differently")
    return found | {"translation": samples[-1]["translation"], "valid": {"ok": not reasons, "reasons": reasons}}


def _process(one: Contestant, source: Sequence[int], search: Search) -> dict[str, Any]:
    task = {
        "engine": one.engine,
        "precision": one.precision,
        "path": str(one.path),
        "threads": THREADS,
        "source": list(source),
        "longest": search.max_length(len(source)),
        "banned": search.banned,
        "begun": time.monotonic(),
    }
    ended = subprocess.run(
        [sys.executable, "-m", "tprune.benchmarks.fresh", json.dumps(task)], capture_output=True, text=True, check=False
    )
    if ended.returncode:
        raise MachineError(
            "a fresh process failed",
            where=f"{one.engine} {one.precision}",
            got=ended.stderr.strip().rpartition("\n")[2],
            fix="run `tprune translate` on such a bundle to see more",
        )
    found: dict[str, Any] = json.loads(ended.stdout)
    return found


def _main(model: Path, corpus: Path, out: Path) -> None:
    text = artifact.read(corpus, "corpus")
    given = artifact.read(model, "model")
    sentences = sorted(quality.sources(open_for(text, given)), key=len)
    source = sentences[len(sentences) // 2]  # of median length
    rows = measure(out.stem, quality.dataset_name(text), given, source)
    record.write(out, rows)
    for row in rows:
        said = row.model_dump()
        assert row.size_bytes is not None
        times = ", ".join(
            f"{key.removesuffix('_ms').replace('_', ' ')} {said[key]['p50']:.0f} ms"
            for key in ("load_ms", "first_token_ms", "whole_first_token_ms")
        )
        memory = ", ".join(
            f"{key.removesuffix('_bytes').replace('_', ' ')} {said[key]['p50'] / 2**20:.0f} MiB"
            for key in ("engine_memory_bytes", "peak_memory_bytes")
        )
        tell(f"{row.engine} {row.precision}: {row.size_bytes / 1e6:.1f} MB, {times}, {memory}")


if __name__ == "__main__":
    script(_main)
