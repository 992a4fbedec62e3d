"""The lexical shortlist: the target tokens that a sentence's translation may use.

At decoding, the output projection is computed for these candidates only: the most frequent target tokens, and for
each source token those that most often translate it. `tprune.export.lexicon` learns them.
"""

from collections.abc import Collection
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from tprune.errors import ArtifactError, InputError
from tprune.model.engine import Engine, Ids, Logits

FILE = "shortlist.safetensors"
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
    """Hash of the vocabulary that the ids belong to, see `tprune.export.lexicon.words_of`."""

    def candidates(self, source: Ids) -> Ids:
        """Sorted target ids (C,) that translations of these source ids, of whatever shape, may use."""
        chosen = self._always.copy()
        for token in set(source.ravel().tolist()):
            chosen[self.translations[self.offsets[token] : self.offsets[token + 1]]] = True
        return np.flatnonzero(chosen)

    def most(self, tokens: int) -> int:
        """Bound of the candidates of a sentence of so many source tokens."""
        lengths = np.sort(np.diff(self.offsets))[::-1][:tokens]
        return min(self.target_vocabulary, len(self.always) + int(lengths.sum()))

    @cached_property
    def _always(self) -> NDArray[np.bool_]:
        flags = np.zeros(self.target_vocabulary, np.bool_)
        flags[self.always] = True
        return flags


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
            raise foreign(path, f"{side} id {largest}", f"0 to {size - 1}, as the model has")
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


def foreign(where: Path, got: str, wanted: str) -> InputError:
    """The error about a shortlist whose ids mean something else."""
    return InputError(
        "shortlist of another vocabulary",
        where=where,
        got=got,
        wanted=wanted,
        fix="make it with `tprune shortlist` from the corpus that the model was trained on",
    )
