"""Whether our beam search finds what Hugging Face's `generate` finds, on real sentences and on every engine.

Run as `python -m tprune.benchmarks.beam_identity MODEL CORPUS OUT.json [BUNDLE ...]`: PyTorch and the given bundles of
the same model against `generate(num_beams=5)`, all in the same batches.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tprune import artifact
from tprune.artifact import Artifact
from tprune.benchmarks import quality, record
from tprune.benchmarks.comparison import VERSIONS, open_entry
from tprune.benchmarks.peers import hf
from tprune.benchmarks.record import DENSE, Row
from tprune.delivery_config import PYTORCH
from tprune.entry import script
from tprune.learn.compatibility import open_for
from tprune.model import checkpoint
from tprune.model.decode import in_batches, translate
from tprune.model.engine import Engine
from tprune.model.search import Search
from tprune.model.transformer import TPruneForConditionalGeneration
from tprune.progress import tell
from tprune.provenance import made_by

SENTENCES, BEAMS, LENGTH_PENALTIES = 500, 5, (1.0, 0.6)
LONGEST = 96  # target tokens of every sentence: `generate` knows one limit for a batch
LEAST_IDENTICAL = 0.99
THREADS = 2

Ids = Sequence[int]


def compare(
    model: TPruneForConditionalGeneration,
    engines: Mapping[tuple[str, str], tuple[Engine, Search]],
    sentences: Sequence[Ids],
    length_penalty: float,
    *,
    beams: int = BEAMS,
    longest: int = LONGEST,
) -> Iterator[tuple[tuple[str, str], dict[str, Any]]]:
    """Translate with `generate` and with every engine, and count the identical translations.

    Args:
        model: What `generate` runs on.
        engines: Engines with the same model and their search settings, by name and precision.
        sentences: Source ids.
        length_penalty: Of the search.
        beams: Width of the search.
        longest: Greatest number of target tokens of every sentence.

    Yields:
        An engine's key, and its fields of a result row: the share of identical translations, and for each other one
        its index, both scores under the model (log-probability / length ** length_penalty) and their difference.
    """
    changes: dict[str, Any] = {"beams": beams, "length_penalty": length_penalty, "max_new_tokens": longest}
    search = Search.of(model, **changes)
    expected = in_batches(partial(_generate, model, search), sentences, search)
    for key, (engine, own) in engines.items():
        found = translate(engine, sentences, replace(own, **changes))
        other = [index for index, ids in enumerate(found) if ids != expected[index]]
        differences = []
        for index in other:
            ours, theirs = (score(model, sentences[index], ids, search) for ids in (found[index], expected[index]))
            differences.append({"sentence": index, "score": ours, "score_generate": theirs, "gap": ours - theirs})
        share = 1 - len(other) / len(sentences)
        reasons = [] if share >= LEAST_IDENTICAL else [f"{share:.1%} identical, at least {LEAST_IDENTICAL:.0%} wanted"]
        yield (
            key,
            {
                "length_penalty": length_penalty,
                "sentences": len(sentences),
                "identical_to_generate": share,
                "differences": differences,
                "hypotheses_sha256": hashlib.sha256(json.dumps(found).encode()).hexdigest(),
                "valid": {"ok": not reasons, "reasons": reasons},
            },
        )


@torch.inference_mode()
def score(model: TPruneForConditionalGeneration, source: Ids, target: Ids, search: Search) -> float:
    """Score of a finished translation, all its positions computed at once without a cache."""
    ended = [*target, search.eos] if len(target) < search.max_length(len(source)) else list(target)
    logits = model(
        torch.tensor([source]), decoder_input_ids=torch.tensor([[search.start, *ended[:-1]]]), use_cache=False
    ).logits[0]
    chosen = logits.double().log_softmax(dim=1)[torch.arange(len(ended)), torch.tensor(ended)]
    return float(chosen.sum() / len(ended) ** search.length_penalty)


def rows(name: str, model: Artifact, bundles: Sequence[Artifact], text: Artifact) -> list[Row]:
    """Compare at every length penalty, on test sentences of a corpus, as result rows."""
    corpus = open_for(text, model)
    dataset, split, sentences = (
        quality.dataset_name(text),
        quality.split_name(corpus),
        quality.spread(corpus, SENTENCES),
    )
    torch.set_num_threads(THREADS)
    loaded = checkpoint.load(model.path)
    opened = {(PYTORCH, "fp32"): open_entry(PYTORCH, model, THREADS)}
    for bundle in bundles:
        said = bundle.manifest["config"]
        opened[said["engine"], said["precision"]] = open_entry(said["engine"], bundle, THREADS)
    found = []
    for length_penalty in LENGTH_PENALTIES:
        tell(f"length penalty {length_penalty}")
        for (engine, precision), fields in compare(loaded, opened, sentences, length_penalty):
            found.append(
                Row(
                    experiment=name,
                    dataset=dataset,
                    split=split,
                    model=DENSE,
                    engine=engine,
                    engine_version=version(VERSIONS[engine]),
                    precision=precision,
                    threads=THREADS,
                    decode=f"beam{BEAMS}",
                    environment=record.environment(),
                    parameters=loaded.num_parameters(),
                    made_by=made_by(),
                    **fields,
                )
            )
            gap = max((abs(difference["gap"]) for difference in fields["differences"]), default=0.0)
            tell(f"{engine} {precision}: {fields['identical_to_generate']:.1%} identical, largest gap {gap:.2g}")
    return found


def _generate(model: TPruneForConditionalGeneration, search: Search, source: Any, mask: Any) -> list[list[int]]:
    return hf.generate(model, np.asarray(source), np.asarray(mask), search)


def _main(model: Path, corpus: Path, out: Path, bundles: list[Path]) -> None:
    given = [artifact.read(bundle, "bundle") for bundle in bundles]
    record.write(out, rows(out.stem, artifact.read(model, "model"), given, artifact.read(corpus, "corpus")))


if __name__ == "__main__":
    script(_main)
