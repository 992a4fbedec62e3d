"""The lexical shortlist: the target tokens that a sentence's translation may use.

At decoding, the output projection is computed for these candidates only: the most frequent target tokens, and for
each source token those that most often translate it. Both are learned from a corpus's training pairs and belong
to its vocabulary, not to a model.
"""

import hashlib
import json
from collections.abc import Collection
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from tprune import config
from tprune.errors import ArtifactError, InputError
from tprune.export import alignment
from tprune.export.alignment import Matrix
from tprune.model.engine import Engine, Ids, Logits
from tprune.text.corpus import Corpus, ParallelIds
from tprune.text.vocab import Tokenizer

FILE = "shortlist.safetensors"
COVERAGE = "coverage.json"
ARRAYS = ("always", "offsets", "translations")


@dataclass(frozen=True, eq=False)
class Shortlist:
    """Candidates by source token; translations stand one source token's after the other's, as in a CSR matrix."""

    always: NDArray[np.int32]
    """Sorted target ids that are candidates of every sentence, the end of sentence among them."""
    offsets: NDArray[np.int64]
    """(source vocabulary + 1,) where in `translations` those of each source token begin, and the end."""
    translations: NDArray[np.int32]
    """Target ids, the likeliest of a source token first."""
    target_vocabulary: int
    words: str
    """Hash of the vocabulary that the ids belong to, see `words_of`."""

    def candidates(self, source: Ids) -> Ids:
        """Sorted target ids (C,) that translations of these source ids, of whatever shape, may use."""
        chosen = self._always.copy()
        for token in set(source.ravel().tolist()):
            chosen[self.translations[self.offsets[token] : self.offsets[token + 1]]] = True
        return np.flatnonzero(chosen)

    @cached_property
    def _always(self) -> NDArray[np.bool_]:
        flags = np.zeros(self.target_vocabulary, np.bool_)
        flags[self.always] = True
        return flags


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


def learn(corpus: Corpus, settings: config.Shortlist) -> Shortlist:
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


def cut(lexicon: Lexicon, settings: config.Shortlist) -> Shortlist:
    """Keep the most frequent target tokens, and the likeliest translations of each source token."""
    table = lexicon.table
    kept, lengths = [], []
    for begin, end in pairwise(table.indptr):
        chances = table.data[begin:end]
        order = np.argsort(-chances, kind="stable")[: settings.best]
        kept.append(table.indices[begin:end][order[chances[order] >= settings.threshold]])
        lengths.append(len(kept[-1]))
    frequent = np.argsort(-lexicon.frequencies, kind="stable")[: settings.first]
    return Shortlist(
        np.union1d(frequent, lexicon.special).astype(np.int32),
        np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        np.concatenate(kept).astype(np.int32),
        int(table.shape[1]),
        lexicon.words,
    )


def coverage(shortlist: Shortlist, pairs: ParallelIds, eos: int) -> Coverage:
    """Compare the candidates of sentences with their reference translations."""
    held, lengths, sizes = [], [], []
    for index in range(len(pairs)):
        source, target = pairs[index]
        candidates, wanted = shortlist.candidates(source), target[target != eos]
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
    if load(path).words != words_of(tokenizer):
        raise _foreign(path, "ids of another tokenizer", "ids of the model's tokenizer")


def fit(path: Path, vocabulary: int, target_vocabulary: int, always: Collection[int]) -> Shortlist:
    """Read a shortlist for a model, whose vocabularies may have more ids than its tokenizer uses.

    Args:
        path: Of the model's tokenizer.
        vocabulary: Source token ids are below this.
        target_vocabulary: Target token ids are below this.
        always: Further candidates of every sentence: what the search needs or forces.

    Raises:
        ArtifactError: No shortlist there.
        InputError: It uses ids that the model does not have.
    """
    found = load(path)
    sides = {
        "source": (int(np.flatnonzero(np.diff(found.offsets)).max(initial=0)), vocabulary),
        "target": (int(max(found.always.max(initial=0), found.translations.max(initial=0))), target_vocabulary),
    }
    for side, (largest, size) in sides.items():
        if largest >= size:
            raise _foreign(path, f"{side} id {largest}", f"0 to {size - 1}, as the model has")
    offsets = found.offsets[: vocabulary + 1]
    return replace(
        found,
        always=np.union1d(found.always, np.asarray(list(always), np.int32)),
        offsets=np.pad(offsets, (0, vocabulary + 1 - len(offsets)), mode="edge"),
        target_vocabulary=target_vocabulary,
    )


def save(shortlist: Shortlist, path: Path) -> None:
    """Write a shortlist as safetensors."""
    save_file(
        {name: getattr(shortlist, name) for name in ARRAYS},
        path,
        {"target_vocabulary": str(shortlist.target_vocabulary), "words": shortlist.words},
    )


def load(path: Path) -> Shortlist:
    """Read a shortlist.

    Raises:
        ArtifactError: Missing, damaged, or no shortlist.
    """
    try:
        with safe_open(path, "numpy") as file:
            said = file.metadata()
            always, offsets, translations = (file.get_tensor(name) for name in ARRAYS)
            return Shortlist(always, offsets, translations, int(said["target_vocabulary"]), said["words"])
    except (OSError, SafetensorError, KeyError, TypeError) as error:
        raise ArtifactError(
            "not a shortlist", where=path, got=str(error), fix="make it again with `tprune shortlist`"
        ) from None


class Restricted:
    """An engine whose logits are -inf but for the candidates: what one with a shortlist inside has to equal."""

    def __init__(self, engine: Engine, shortlist: Shortlist) -> None:
        self.engine, self.shortlist = engine, shortlist

    def encode(self, source: Ids, mask: Ids) -> Any:
        """See `Engine.encode`; a batch has the candidates of all its sentences."""
        return self.engine.encode(source, mask), self.shortlist.candidates(source[mask == 1])

    def step(self, tokens: Ids, state: Any) -> tuple[Logits, Any]:
        """See `Engine.step`."""
        inner, candidates = state
        logits, inner = self.engine.step(tokens, inner)
        return spread(logits[:, candidates], candidates, logits.shape[1]), (inner, candidates)

    def reorder(self, state: Any, rows: Ids) -> Any:
        """See `Engine.reorder`."""
        inner, candidates = state
        return self.engine.reorder(inner, rows), candidates


def spread(logits: Logits, candidates: Ids, vocabulary: int) -> Logits:
    """Logits (B, C) of candidates -> (B, N), -inf for all other tokens."""
    wide = np.full((len(logits), vocabulary), -np.inf, np.float32)
    wide[:, candidates] = logits
    return wide


def _foreign(where: Path, got: str, wanted: str) -> InputError:
    return InputError(
        "shortlist of another vocabulary",
        where=where,
        got=got,
        wanted=wanted,
        fix="make it with `tprune shortlist` from the corpus that the model was trained on",
    )
