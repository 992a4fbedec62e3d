"""How fast our engines and the peers decode one dense model, against CTranslate2 at the same precision, in turn.

Run as `python -m tprune.benchmarks.decode_speed base OUT.json`, or `tiny`, or with a trained model and its corpus
`python -m tprune.benchmarks.decode_speed MODEL OUT.json CORPUS [BUNDLE...]`. Random models translate 20 random tokens
into 25. BUNDLE: of a pruned model, named as its folder; it takes its turns with the dense one's engines.
Needs CTranslate2 (`pip install -e '.[peers]'`); another peer that cannot run here is skipped with a line that says why.
"""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import numpy as np
import typer

from tprune import artifact
from tprune.artifact import Artifact
from tprune.benchmarks import floor, latency, quality, record, stats
from tprune.benchmarks.lineup import Contestant, bundled, line_up
from tprune.benchmarks.peers import ct2_format
from tprune.benchmarks.peers.peer import Peer
from tprune.benchmarks.peers.table import at_hand
from tprune.benchmarks.ratios import timed_fields, unequal_length, unequal_work
from tprune.benchmarks.record import DENSE, Row
from tprune.benchmarks.result_table import milliseconds, over_floor
from tprune.benchmarks.sizes import SIZES, random_model
from tprune.benchmarks.standings import setting
from tprune.entry import script
from tprune.errors import InputError
from tprune.learn.compatibility import open_for
from tprune.model import checkpoint
from tprune.model.search import Search
from tprune.progress import tell
from tprune.text import plain_tokenizer

SOURCE, TARGET = 20, 25  # tokens of the random models' sentences
RANDOM_SENTENCES, REAL_SENTENCES, WARMUP = 4, 40, 2
ROUNDS = 10  # at least, and more where the sentences are few or a candidate is quick
THREADS = (1, 2)
ENGINES = ("onnxruntime", "executorch")
PEER = ct2_format.PEER.name


def measure(
    name: str,
    model: Artifact,
    sentences: Sequence[list[int]],
    new_tokens: int | None,
    others: Mapping[Contestant, Sequence[list[int]]] | None = None,
    *,
    engines: Sequence[str] = ENGINES,
    peers: Sequence[Peer] | None = None,
    threads_of_each: Sequence[int] = THREADS,
    seconds: float = stats.LEAST_SECONDS,
) -> list[Row]:
    """Export the model for every engine and precision, and time all of them and the peers at hand in turn.

    Args:
        name: Of the model, for the experiment's name.
        model: A dense model.
        sentences: Source ids.
        new_tokens: Length of every translation; None: as long as it wants.
        others: Bundles of other models, with the same sentences in their own ids.
        engines: Those of ours.
        peers: Theirs, CTranslate2 among them; None: all at hand.
        threads_of_each: Numbers of threads to measure with, one after the other.
        seconds: Least time of each in all its passes.

    Raises:
        InputError: Two bundles of one engine, precision and name, or one that is called as the dense model is.
    """
    others = others or {}
    _check_names(others)
    loaded = checkpoint.load(model.path)
    search, work = Search.of(loaded, max_new_tokens=new_tokens), floor.work(loaded)
    source = float(np.mean([len(ids) for ids in sentences]))
    rounds, rows = max(ROUNDS, -(-stats.LEAST_SAMPLES // len(sentences))), []
    with TemporaryDirectory() as scratch:
        dense = line_up(model, Path(scratch), engines, at_hand(tell) if peers is None else peers)
        texts = dict.fromkeys(dense, sentences) | dict(others)
        for threads in threads_of_each:
            tell(f"latency, threads: {threads}")
            opened = {one.key: latency.by_index(one.open(threads, search), text) for one, text in texts.items()}
            samples = latency.time_in_turn(opened, range(len(sentences)), rounds=rounds, seconds=seconds, warmup=WARMUP)
            times = {key: sample.milliseconds for key, sample in samples.items()}
            machines = {
                arithmetic: floor.measure(work.weights_step * size, threads) for arithmetic, size in floor.BYTES.items()
            }
            for one in texts:
                baseline = PEER, one.arithmetic, DENSE
                outputs, expected = samples[one.key].outputs, samples[baseline].outputs
                target = float(np.mean([len(ids) for ids in outputs]))
                compared: dict[str, float] = {}
                if one in others:
                    doubts = unequal_length(outputs, expected)
                else:
                    doubts = unequal_work(outputs, expected, one.precision)
                    steps = target + (new_tokens is None)
                    compared = work.floor_ms(machines[one.arithmetic], one.arithmetic, source, steps)
                    same = [a == b for a, b in zip(outputs, expected, strict=True)]
                    compared["same_as_peer"] = float(np.mean(same))
                rows.append(
                    Row(
                        experiment=f"decode-{name}",
                        dataset="random" if new_tokens else name,
                        split="test",
                        **one.facts(threads),
                        target_tokens=target,
                        **compared,
                        **timed_fields(times, one.key, baseline, PEER, doubts=doubts),
                    )
                )
    return rows


def _check_names(bundles: Collection[Contestant]) -> None:
    """Refuse bundles whose rows could not be told apart."""
    keys = [bundle.key for bundle in bundles]
    twice = {" ".join(key) for key in keys if keys.count(key) > 1 or key[-1] == DENSE}
    if twice:
        raise InputError(
            "models that cannot be told apart",
            got=", ".join(sorted(twice)),
            wanted=f"each engine, precision and name once, none called {DENSE}",
            fix="rename the bundle's folder, which gives the model its name",
        )


def _main(
    model: Annotated[str, typer.Argument(help="base, tiny, or a model's directory.")],
    out: Path,
    corpus: Annotated[Path | None, typer.Argument(help="Of the model.")] = None,
    bundles: Annotated[list[Path] | None, typer.Argument(help="Of pruned models.")] = None,
    peer: Annotated[list[str] | None, typer.Option(help="Of the peers this one and CTranslate2; all.")] = None,
    threads: Annotated[list[int] | None, typer.Option(help="So many, one after the other; 1 and 2.")] = None,
) -> None:
    peers, counts = at_hand(tell, [PEER, *peer] if peer else None), threads or THREADS
    if corpus is None and model not in SIZES:
        raise InputError("no corpus to translate", got=model, wanted=f"{' or '.join(SIZES)}, or a model and its corpus")
    if corpus is None:
        chance = np.random.default_rng(0)
        sentences: Any = chance.integers(4, SIZES[model]["vocab_size"], (RANDOM_SENTENCES, SOURCE)).tolist()
        with TemporaryDirectory() as scratch:
            dense = random_model(model, Path(scratch) / "model")
            rows = measure(model, dense, sentences, TARGET, peers=peers, threads_of_each=counts)
    else:
        given = artifact.read(Path(model), "model")
        text = open_for(artifact.read(corpus, "corpus"), given)
        others = {
            bundled(artifact.read(bundle, "bundle")): quality.spread(text, REAL_SENTENCES, plain_tokenizer.load(bundle))
            for bundle in bundles or ()
        }
        whole = quality.spread(text, REAL_SENTENCES)
        rows = measure(out.stem, given, whole, None, others, peers=peers, threads_of_each=counts)
    record.write(out, rows)
    for row in rows:
        assert row.latency_ms is not None
        ratio = f", {1 / row.speedup:.3f} of {PEER}" if row.speedup else ""
        bound = f", {over_floor(row)} of the floor" if row.dense else ""
        tell(f"{row.model}, {setting(row)}: {milliseconds(row, 'p50')}{bound}{ratio}")


if __name__ == "__main__":
    script(_main)
