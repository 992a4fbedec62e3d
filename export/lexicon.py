"""What a corpus says of its tokens' translations, and the shortlists that are cut from it.

They belong to the corpus's vocabulary, not to a model.
"""

import hashlib
import json
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tprune import delivery_config
from tprune.export import alignment, shortlist
from tprune.export.alignment import Matrix
from tprune.export.shortlist import Shortlist
from tprune.text.corpus import Corpus, ParallelIds
from tprune.text.vocab import Tokenizer

COVERAGE = "coverage.json"


@dataclass(frozen=True, eq=False)
class Lexicon:
    """What a corpus says of its tokens' translations."""

    table: Matrix
    """(source vocabulary, target vocabulary) p(target token | source token)."""
    frequencies: NDArray[np.float32]
    """(target vocabulary,) how often each target token occurs."""
    special: tuple[int, ...]
    """Target tokens that no text needs to contain to be wanted."""
    words: str
    """Hash of the vocabulary, see `words_of`."""


@dataclass(frozen=True)
class Coverage:
    """How much of reference translations the candidates hold; the end of sentence does not count."""

    tokens: float
    """Share of the reference tokens that are candidates of their sentence."""
    sentences: float
    """Share of the sentences all of whose reference tokens are."""
    candidates: float
    """Mean number of candidates of a sentence."""


def learn(corpus: Corpus, settings: delivery_config.Shortlist) -> Shortlist:
    """Learn candidates from a corpus's training pairs."""
    return cut(learn_lexicon(corpus, settings.iterations), settings)


def learn_lexicon(corpus: Corpus, iterations: int) -> Lexicon:
    """Learn from a corpus's training pairs what shortlists of every size are cut from."""
    pairs, words = corpus.split(corpus.train), corpus.tokenizer
    size, ignored = words.vocabulary_size, (words.pad_id, words.eos_id)
    source, target = (alignment.counts(pairs, side, size, ignored, null=side == 0) for side in (0, 1))
    unknown = words.backend.unk_token_id
    return Lexicon(
        alignment.translations(source, target, iterations)[:-1],  # NULL is no source token
        np.asarray(target.sum(axis=0)),
        (words.eos_id, *([] if unknown is None else [int(unknown)])),
        words_of(words),
    )


def cut(lexicon: Lexicon, settings: delivery_config.Shortlist) -> Shortlist:
    """Keep the most frequent target tokens, and the likeliest translations of each source token."""
    table = lexicon.table
    kept, lengths = [], []
    for begin, end in pairwise(table.indptr):
        chances = table.data[begin:end]
        order = np.argsort(-chances, kind="stable")[: settings.best]
        kept.append(table.indices[begin:end][order[chances[order] >= settings.threshold]])
        lengths.append(len(kept[-1]))
    frequent = np.argsort(-lexicon.frequencies, kind="stable")[: settings.first]
    frequent = frequent[lexicon.frequencies[frequent] > 0]  # a trimmed output has no rows for what is never said
    return Shortlist(
        np.union1d(frequent, lexicon.special).astype(np.int32),
        np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        np.concatenate(kept).astype(np.int32),
        int(table.shape[1]),
        lexicon.words,
    )


def coverage(found: Shortlist, pairs: ParallelIds, eos: int) -> Coverage:
    """Compare the candidates of sentences with their reference translations."""
    held, lengths, sizes = [], [], []
    for index in range(len(pairs)):
        source, target = pairs[index]
        candidates, wanted = found.candidates(source), target[target != eos]
        held.append(int(np.isin(wanted, candidates).sum()))
        lengths.append(len(wanted))
        sizes.append(len(candidates))
    whole = np.equal(held, lengths)
    return Coverage(sum(held) / sum(lengths), float(whole.mean()), float(np.mean(sizes)))


def words_of(tokenizer: Tokenizer) -> str:
    """Hash of a vocabulary: which id stands for which piece."""
    pieces = sorted(tokenizer.backend.get_vocab().items())
    return hashlib.sha256(json.dumps(pieces).encode()).hexdigest()


def check_words(path: Path, tokenizer: Tokenizer) -> None:
    """Refuse a shortlist whose ids mean other pieces than the tokenizer's.

    Raises:
        ArtifactError: No shortlist there.
        InputError: They do.
    """
    if shortlist.load(path).words != words_of(tokenizer):
        raise shortlist.foreign(path, "ids of another tokenizer", "ids of the model's tokenizer")
