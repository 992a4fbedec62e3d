"""Quality of every engine's own output: what a user of the bundle would read."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tprune.artifact import Artifact
from tprune.benchmarks import stats
from tprune.learn.evaluate import Quality, bleu_tokenizer, score
from tprune.model.decode import translate
from tprune.model.engine import Engine
from tprune.model.search import Search
from tprune.text.corpus import Corpus
from tprune.text.plain_tokenizer import SentenceTokenizer

POOLED = "pooled"
BATCH_SIZE = 32


@dataclass(frozen=True)
class Output:
    """Translations of the test splits by one model on one engine, and their scores."""

    hypotheses: tuple[str, ...]
    """Over all splits, in their order."""
    pooled: Quality
    by_split: dict[str, float]
    """BLEU of every split by itself."""
    target_tokens: float
    """Mean length of a translation, in tokens."""

    @property
    def digest(self) -> str:
        """Hash of the hypotheses."""
        return hashlib.sha256(json.dumps(self.hypotheses).encode()).hexdigest()


def test_splits(corpus: Corpus) -> list[str]:
    """The splits that the settings call tests, each once."""
    return list(dict.fromkeys(corpus.test))


def split_name(corpus: Corpus) -> str:
    """What a result row calls the test data: the split's name, or that several are pooled."""
    names = test_splits(corpus)
    return names[0] if len(names) == 1 else POOLED


def dataset_name(text: Artifact) -> str:
    """What result rows call a corpus."""
    said = text.manifest["config"]
    named = said.get("dataset") or said.get("folder")
    return Path(named).name if named else str(said["kind"])


def sources(corpus: Corpus, words: SentenceTokenizer | None = None) -> list[list[int]]:
    """Source ids of all test splits, in their order: the corpus's, or those of a model's own tokenizer."""
    if words is not None:
        return words.encode([line for name in test_splits(corpus) for line in corpus.raw(name)[0]])
    found = []
    for name in test_splits(corpus):
        pairs = corpus.split(name)
        found += [pairs[index][0].tolist() for index in range(len(pairs))]
    return found


def spread(corpus: Corpus, count: int, words: SentenceTokenizer | None = None) -> list[list[int]]:
    """Source ids of `count` test sentences, evenly spread over the test set; see `sources`."""
    ids = sources(corpus, words)
    return [ids[index] for index in np.linspace(0, len(ids) - 1, min(count, len(ids))).round().astype(int)]


def references(corpus: Corpus) -> list[str]:
    """Reference translations of all test splits, in their order."""
    return [line for name in test_splits(corpus) for line in corpus.raw(name)[1]]


def translate_tests(
    engine: Engine,
    corpus: Corpus,
    search: Search,
    language: str,
    *,
    words: SentenceTokenizer | None = None,
    batch_size: int = BATCH_SIZE,
    progress: Callable[[int], None] | None = None,
) -> Output:
    """Translate every test split and score it.

    Args:
        engine: What computes.
        corpus: Its test splits are translated.
        search: Greedy or beam.
        language: Target language, for sacreBLEU's tokenizer.
        words: The model's own tokenizer; None: the corpus's.
        batch_size: Sentences per batch.
        progress: Told the number of newly finished sentences.
    """
    return scored(translate(engine, sources(corpus, words), search, batch_size, progress), corpus, language, words)


def scored(
    ids: Sequence[Sequence[int]], corpus: Corpus, language: str, words: SentenceTokenizer | None = None
) -> Output:
    """Score translations of the test splits.

    Args:
        ids: Target ids of every sentence of `sources`, in their order.
        corpus: Its test splits were translated.
        language: Target language, for sacreBLEU's tokenizer.
        words: Whose ids they are; None: the corpus's tokenizer.
    """
    hypotheses = (words or corpus.tokenizer).decode(ids)
    by_split, start = {}, 0
    for name in test_splits(corpus):
        lines = corpus.raw(name)[1]
        by_split[name] = score(hypotheses[start : start + len(lines)], lines, language).bleu
        start += len(lines)
    return Output(
        tuple(hypotheses), score(hypotheses, references(corpus), language), by_split, sum(map(len, ids)) / len(ids)
    )


def loss(dense: Output, pruned: Output, corpus: Corpus, language: str, *, resamples: int, seed: int) -> stats.Loss:
    """Relative BLEU loss with its upper bound, by paired bootstrap over sentences."""

    def statistics(hypotheses: Sequence[str]) -> stats.Floats:
        return stats.bleu_statistics(hypotheses, references(corpus), tokenize=bleu_tokenizer(language))

    return stats.bleu_loss(statistics(dense.hypotheses), statistics(pruned.hypotheses), resamples=resamples, seed=seed)
