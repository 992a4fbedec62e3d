"""A corpus in the ids of a trimmed vocabulary, and which tokens are worth keeping for it.

Where one vocabulary serves both sides, a translation is made of its first tokens only. A token behind them that stands
in a held-out target, and in none of the training text, is an unknown one there.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tprune.errors import InputError
from tprune.json_file import write_json
from tprune.text import sources, trimming
from tprune.text.corpus import CHECKS, TOKENIZER, Corpus, ParallelIds, encode, write_ids, write_text
from tprune.text.vocab import Side, Tokenizer

SIDES: tuple[Side, Side] = ("source", "target")


@dataclass(frozen=True)
class Kept:
    """Token ids that stay, rising.

    Attributes:
        read: Can stand in a sentence of either side.
        said: Can stand in a translation.
    """

    read: tuple[int, ...]
    said: tuple[int, ...]


def choose(corpora: Sequence[Corpus], minimum: int) -> Kept:
    """Tokens worth keeping for the training text of corpora with one tokenizer.

    A token can be said when a target of any of them holds it, segmented by the tokenizer that is left.

    Args:
        corpora: Of a tokenizer that can be trimmed: the text, then what else is learned from, as a distilled corpus
            that says what the text does not, and may hold the text again.
        minimum: Occurrences on both sides of the text together that keep a token; 1 changes no training sentence of
            any corpus.

    Raises:
        InputError: The tokenizer cannot be trimmed.
    """
    words, texts = corpora[0].tokenizer, [corpus.split(corpus.train) for corpus in corpora]
    counted = texts if minimum == 1 else texts[:1]
    counts = sum(np.bincount(pairs.ids, minlength=words.vocabulary_size) for pairs in counted)
    order = trimming.closure(words, np.flatnonzero(counts >= minimum).tolist())
    smaller, said = trimming.trimmed(words, order), set(words.special_ids)
    for pairs in texts:
        flat, lengths = remap(pairs, words, smaller, order)
        said |= {order[token] for token in np.unique(flat[on_target(lengths)])}
    return Kept(tuple(order), tuple(sorted(said)))


def remap(
    pairs: ParallelIds, old: Tokenizer, new: Tokenizer, order: Sequence[int]
) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Sentence pairs in the ids of `trimming.trimmed(old, order)`, which is `new`.

    Only sentences that hold a token which is gone are segmented anew.

    Returns:
        All ids in a row (source 0, target 0, source 1, …), and the lengths (n, 2).
    """
    table = np.full(old.vocabulary_size, -1)
    table[list(order)] = np.arange(len(order))
    flat = table[pairs.ids]
    rows = np.split(flat, pairs.offsets[1:-1])
    broken = np.unique(np.searchsorted(pairs.offsets, np.flatnonzero(flat < 0), side="right") - 1)
    for parity, side in enumerate(SIDES):
        indices = broken[broken % 2 == parity]
        texts = old.decode([pairs.ids[slice(*pairs.offsets[index : index + 2])].tolist() for index in indices])
        for index, ids in zip(indices, new.encode(texts, side=side), strict=True):
            rows[index] = np.array(ids)
    return np.concatenate(rows), np.array([len(row) for row in rows], np.int32).reshape(-1, 2)


def prepare(corpus: Corpus, folder: Path, order: Sequence[int], said: int) -> None:
    """Write a corpus's payload in new ids.

    Args:
        corpus: In the old ids.
        folder: Directory to write to.
        order: Old ids in their new order.
        said: Translations are made of the tokens below this new id.

    Raises:
        InputError: The tokenizer cannot be trimmed, or the training text does not fit what can be said.
    """
    words = trimming.trimmed(corpus.tokenizer, order)
    report: dict[str, Any] = {name: dict(entry) for name, entry in corpus.checks.items()}
    for name in corpus.splits:
        if name == corpus.train:
            flat, lengths = remap(corpus.split(name), corpus.tokenizer, words, order)
        else:
            source, target = corpus.raw(name)
            text = sources.Segments(source, target)
            ids, lengths = encode(words, text, range(1, len(text) + 1))
            flat = ids.astype(np.int64)
            write_text(folder, name, text)
        unsayable = on_target(lengths) & (flat >= said)
        if name == corpus.train and unsayable.any():
            raise InputError(
                "the training text holds target tokens that the plan does not keep",
                where=corpus.path,
                got=f"{int(unsayable.sum())} tokens",
                wanted="none",
                fix="make the plan with this corpus",
            )
        flat[unsayable] = words.backend.unk_token_id
        write_ids(folder, name, flat, lengths, len(order))
        report[name]["unknown_target_tokens"] = int(unsayable.sum())
    words.save(folder / TOKENIZER)
    write_json(folder / CHECKS, report)


def on_target(lengths: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Which ids in a row are those of targets, for lengths (n, 2)."""
    return np.repeat(np.tile([False, True], len(lengths)), lengths.reshape(-1))
