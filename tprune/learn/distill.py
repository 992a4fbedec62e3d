"""Sequence-level distillation (Kim & Rush 2016): the teacher's own translations as what the student learns.

The teacher's beam output for the training sources is a corpus of the same form: same tokenizer, same validation and
test splits, same sources. A hypothesis that says nothing or never came to its end teaches nothing: its pair keeps the
original target.
"""

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tprune import artifact
from tprune.artifact import Artifact
from tprune.config import Distill
from tprune.errors import InputError
from tprune.json_file import write_json
from tprune.learn.batches import Parallel
from tprune.model.decode import translate
from tprune.model.engine import Engine
from tprune.model.search import Search
from tprune.section import resolved
from tprune.text.corpus import derived, open_corpus, write_ids

REPORT = "distill.json"
ABOUT_RUN = ("on", "dense")  # settings of who learns from the corpus, not of the corpus
CHUNK = 1024  # sentences between two files of the scratch folder: what a kill costs at most

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Report:
    """What became of the training pairs.

    Attributes:
        pairs: Training pairs of the original corpus.
        empty: Of them: the teacher said nothing, the original target stays.
        unfinished: Of them: the hypothesis ran into the length bound, the original target stays.
        same: Of them: the teacher found the original target.
        written: Training pairs of the new corpus.
        target_tokens: Mean length of the original targets and of what stands in their place, eos included.
    """

    pairs: int
    empty: int
    unfinished: int
    same: int
    written: int
    target_tokens: tuple[float, float]


def inputs(text: Artifact, settings: Distill) -> dict[str, Any]:
    """What the corpus says of itself: what the original says, and how it was distilled.

    Raises:
        InputError: It is distilled already.
    """
    said = derived(text)
    if "distill" in said:
        raise InputError(
            "this corpus is distilled already",
            where=text.path,
            fix="give the corpus it was made from: the teacher needs each source once",
        )
    return {**said, "distill": {key: value for key, value in resolved(settings).items() if key not in ABOUT_RUN}}


def write(folder: Path, engine: Engine, search: Search, text: Artifact, settings: Distill, tell: Tell) -> Report:
    """Write the distilled corpus' files; go on from `folder`'s scratch when a kill left chunks there.

    Args:
        folder: The new artifact's partial directory.
        engine: The teacher.
        search: Its own search settings; beam and length penalty come from `settings`.
        text: The original corpus.
        settings: Beam, length penalty, batch, and whether the original pairs stay too.
        tell: Gets the progress in words.
    """
    corpus = open_corpus(text)
    for name in text.manifest["files"]:
        if name not in (f"{corpus.train}.ids.npy", f"{corpus.train}.offsets.npy"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(text.path / name, folder / name)
    pairs = corpus.split(corpus.train)
    search = replace(
        search,
        beams=settings.beam,
        length_penalty=settings.length_penalty,
        limit=min(search.limit, text.manifest["config"]["max_tokens"]),
        source_limit=search.longest_source,  # trimming spells rare words: its sources may be longer than max_tokens
    )
    found = hypotheses(engine, pairs, search, settings.batch, folder / artifact.SCRATCH, tell)
    flat, lengths, report = _pairs(pairs, found, search, mix=settings.mix)
    write_ids(folder, corpus.train, flat, lengths, corpus.tokenizer.vocabulary_size)
    write_json(folder / REPORT, asdict(report))
    return report


def hypotheses(
    engine: Engine, pairs: Parallel, search: Search, batch_size: int, scratch: Path, tell: Tell
) -> list[list[int]]:
    """The teacher's translation of every source, in the corpus' order, without eos.

    Sentences of like length are translated together; every chunk is a file in `scratch`, and what is there is not
    translated again.
    """
    found: list[list[int]] = [[] for _ in range(len(pairs))]
    order = np.lexsort(np.asarray(pairs.lengths).T[::-1])[::-1]  # longest first: memory runs out at once or never
    for begin in range(0, len(order), CHUNK):
        indices = order[begin : begin + CHUNK].tolist()
        file = scratch / f"hypotheses-{begin}.npy"
        if not file.exists():
            sources = [pairs[index][0].tolist() for index in indices]
            _save(file, translate(engine, sources, search, batch_size))
        for index, ids in zip(indices, _load(file), strict=True):
            found[index] = ids
        tell(f"{min(begin + CHUNK, len(order)):,} of {len(order):,} sentences")
    return found


def _pairs(
    pairs: Parallel, found: Sequence[list[int]], search: Search, *, mix: bool
) -> tuple[NDArray[np.uint32], NDArray[np.int32], Report]:
    """Ids in a row and lengths (n, 2) of the new training pairs, and the report; see `text.corpus.encode`."""
    rows = [side for index in range(len(pairs)) for side in pairs[index]] if mix else []
    counts, before, after = {"empty": 0, "unfinished": 0, "same": 0}, 0, 0
    for index, ids in enumerate(found):
        source, original = pairs[index]
        hypothesis = np.array([*ids, search.eos], dtype=original.dtype)
        kind = _why_not(ids, len(source), search) or ("same" if np.array_equal(hypothesis, original) else None)
        if kind is not None:
            counts[kind] += 1
            hypothesis = original
        before, after = before + len(original), after + len(hypothesis)
        if kind is None or not mix:  # among the original pairs it would only stand there twice
            rows += [source, hypothesis]
    lengths = np.array([len(side) for side in rows], dtype=np.int32).reshape(-1, 2)
    means = before / len(pairs), after / len(pairs)
    return (
        np.concatenate(rows).astype(np.uint32),
        lengths,
        Report(len(pairs), **counts, written=len(lengths), target_tokens=means),
    )


def _why_not(ids: Sequence[int], source_length: int, search: Search) -> str | None:
    if not set(ids) - {search.eos, search.pad, search.forced_bos}:
        return "empty"
    return "unfinished" if search.is_cut(source_length, len(ids)) else None


def _save(file: Path, translations: Sequence[Sequence[int]]) -> None:
    """One row of numbers: each translation's length, then its ids; whole or not at all."""
    row = np.array([number for ids in translations for number in (len(ids), *ids)], dtype=np.uint32)
    partial = file.with_name(f"{file.name}.{os.getpid()}.tmp")
    with partial.open("wb") as stream:
        np.save(stream, row)
    partial.replace(file)


def _load(file: Path) -> list[list[int]]:
    row, translations, place = np.load(file, allow_pickle=False).tolist(), [], 0
    while place < len(row):
        length = row[place]
        translations.append(row[place + 1 : place + 1 + length])
        place += 1 + length
    return translations
