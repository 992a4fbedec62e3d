"""Whether the native runners translate as the Python runtime does, and what they add to the engine's own time.

Run as `python -m tprune.android_runner.identity CORPUS OUT.json BUNDLE ...`: test sentences one at a time on this
machine, each bundle by its quickest mode. A bundle's folder names its model.
"""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tprune import artifact
from tprune.android_runner import build, execution, journal, run_file
from tprune.android_runner.links import Local
from tprune.android_runner.run_file import Job
from tprune.android_runner.transport import Device
from tprune.artifact import Artifact
from tprune.benchmarks import comparison, quality, record
from tprune.benchmarks.record import Row
from tprune.entry import script
from tprune.export import description
from tprune.export.runtime import open_bundle
from tprune.model import decode
from tprune.model.search import Search
from tprune.progress import tell
from tprune.provenance import made_by
from tprune.text import plain_tokenizer
from tprune.text.corpus import open_corpus

SENTENCES, WARMUP, THREADS = 500, 10, 1
MOST_OVERHEAD = 0.02
ABI = "x86_64"


def compare(bundle: Artifact, sentences: Sequence[Sequence[int]], folder: Path) -> dict[str, Any]:
    """Translate sentences with the runner and with the Python runtime.

    Args:
        bundle: A bundle.
        sentences: Source ids.
        folder: The "device's".

    Returns:
        Fields of a result row: how many translations are identical, the time outside the inference library relative
        to the time in it, and whether both are as wanted.
    """
    said = description.read(bundle.path)
    job = Job(run_file.modes(said)[0], THREADS, runs=len(sentences), warmup=WARMUP)
    runner = build.build(said.engine, ABI)
    found = journal.parse(execution.execute(Device(Local(str(folder))), runner, bundle, job, sentences, "identity"))
    translate = decode.one_by_one(open_bundle(bundle.path, THREADS), Search(**said.search))
    expected = [translate(ids) for ids in sentences]
    identical = sum(one.tokens == ids for one, ids in zip(found.timed, expected, strict=True))
    reasons = [] if identical == len(sentences) else [f"{identical} of {len(sentences)} translations are identical"]
    if found.overhead > MOST_OVERHEAD:
        reasons.append(
            f"the runner adds {found.overhead:.2%} to the library's time, at most {MOST_OVERHEAD:.0%} wanted"
        )
    return {
        "mode": job.mode,
        "sentences": len(sentences),
        "identical_to_python": identical,
        "runner_overhead": found.overhead,
        "valid": {"ok": not reasons, "reasons": reasons},
    }


def _main(corpus: Path, out: Path, bundles: list[Path]) -> None:
    text = artifact.read(corpus, "corpus")
    opened, rows = open_corpus(text), []
    for path in bundles:
        bundle = artifact.read(path, "bundle")
        sentences = quality.spread(opened, SENTENCES, plain_tokenizer.load(path))
        said = description.read(path)
        with TemporaryDirectory() as folder:
            fields = compare(bundle, sentences, Path(folder))
        row = Row(
            experiment=out.stem,
            dataset=quality.dataset_name(text),
            split=quality.split_name(opened),
            model=path.resolve().name,
            engine=said.engine,
            engine_version=said.engine_version,
            precision=said.precision,
            threads=THREADS,
            decode="greedy",
            environment=record.environment(),
            parameters=said.parameters,
            size_bytes=comparison.size_bytes(bundle),
            **comparison.hashes(bundle),
            made_by=made_by(),
            **fields,
        )
        rows.append(row)
        tell(
            f"{said.engine} {said.precision} {fields['mode']}: {fields['identical_to_python']} of {len(sentences)} "
            f"identical, {fields['runner_overhead']:.2%} over the library's time"
        )
    record.write(out, rows)


if __name__ == "__main__":
    script(_main)
