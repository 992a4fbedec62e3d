"""The corpus artifact: checked parallel text as memory-mapped token ids, with its tokenizer.

Payload: `tokenizer/`; per split `SPLIT.ids.npy`, all ids in a row (source 0, target 0, source 1, …),
and `SPLIT.offsets.npy` (2n + 1), where each of them begins; `SPLIT.source.txt` and `SPLIT.target.txt`
of validation and test splits; `checks.json`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tprune import artifact
from tprune.config import Text
from tprune.errors import ArtifactError
from tprune.json_file import read_json, write_json
from tprune.progress import tell
from tprune.section import resolved
from tprune.text import checks, sources, vocab
from tprune.text.sources import Segments

TOKENIZER = "tokenizer"
CHECKS = "checks.json"


@dataclass(frozen=True)
class ParallelIds:
    """Sentence pairs of a split as token ids.

    Attributes:
        ids: All ids in a row, memory-mapped.
        offsets: (2n + 1,) begin of source 0, target 0, source 1, …, and the end.
    """

    ids: NDArray[Any]
    offsets: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.offsets) // 2

    def __getitem__(self, index: int) -> tuple[NDArray[Any], NDArray[Any]]:
        """Source and target ids of one pair, each with its end-of-sentence token."""
        if not -len(self) <= index < len(self):
            raise IndexError(f"pair {index} of {len(self)}")
        begin, middle, end = self.offsets[2 * (index % len(self)) :][:3]
        return self.ids[begin:middle], self.ids[middle:end]

    @property
    def lengths(self) -> NDArray[np.int32]:
        """(n, 2) source and target lengths."""
        return np.diff(self.offsets).reshape(-1, 2).astype(np.int32)


@dataclass(frozen=True)
class Corpus:
    """An opened corpus artifact; the files it was made from are not needed.

    Attributes:
        path: The artifact's directory.
        tokenizer: What made the ids.
        source: Language of the source.
        target: Language of the target.
        train: Name of the training split.
        valid: Name of the validation split.
        test: Names of the test splits.
        checks: The report on the input, by split.
    """

    path: Path
    tokenizer: vocab.Tokenizer
    source: str
    target: str
    train: str
    valid: str
    test: tuple[str, ...]
    checks: Mapping[str, Any]

    @property
    def splits(self) -> tuple[str, ...]:
        """All splits, training first."""
        return tuple(dict.fromkeys((self.train, self.valid, *self.test)))

    def split(self, name: str) -> ParallelIds:
        """Token ids of a split.

        Raises:
            ArtifactError: No such split.
        """
        self._known(name, self.splits)
        return _load(self.path, name)

    def raw(self, name: str) -> tuple[list[str], list[str]]:
        """Source and target text of a validation or test split, line by line.

        Raises:
            ArtifactError: No such split, or the training split.
        """
        self._known(name, [split for split in self.splits if split != self.train])
        source, target = (
            (self.path / f"{name}.{side}.txt").read_bytes().decode().split("\n")[:-1] for side in ("source", "target")
        )
        return source, target

    def _known(self, name: str, there: Sequence[str]) -> None:
        if name not in there:
            raise ArtifactError(
                "no such split",
                where=self.path,
                got=name,
                wanted=" | ".join(there),
                fix="name one of these, or prepare the text again",
            )


def inputs(config: Text, tokenizer: Path | None = None) -> dict[str, Any]:
    """What a corpus is made from: settings and file hashes, for the fingerprint.

    Raises:
        InputError: Files are missing, or the splits are the same.
    """
    made_from: dict[str, Any] = {**resolved(config), "files": sources.hashes(config)}
    if tokenizer is not None:
        folder = tokenizer if tokenizer.is_dir() else tokenizer.parent
        made_from["tokenizer_files"] = {name: artifact.sha256(folder / name) for name in vocab.files(folder)}
    return made_from


def prepare(config: Text, out: Path, *, tokenizer: Path | None = None, force: bool = False) -> artifact.Artifact:
    """Read, check and encode parallel text.

    Args:
        config: Where the text is and what becomes of it.
        out: The artifact's directory.
        tokenizer: Folder or `tokenizer.json` of an existing tokenizer to use instead of training one.
        force: Replace a finished artifact at `out`.

    Raises:
        InputError: The text or the tokenizer cannot be used; all problems at once.
        ArtifactError: `out` is in the way.
    """
    with artifact.create(out, "corpus", config=inputs(config, tokenizer), force=force) as folder:
        splits = sources.read(config)
        train = splits[config.train]
        held_out = [split for name, split in splits.items() if name != config.train]
        tests = [splits[name] for name in config.test if name != config.valid]
        known = {config.train: held_out, config.valid: tests}
        found = {name: checks.pairs(split, known.get(name, ())) for name, split in splits.items()}
        usable = checks.kept(train, found[config.train])
        if not usable:
            checks.refuse(config.train, found[config.train], "no pair is left to train on: correct the text")
        words = _tokenizer(config, train, usable, tokenizer)
        report = {}
        for name, split in splits.items():
            numbers = usable if name == config.train else list(range(1, len(split) + 1))
            flat, lengths = encode(words, split, numbers)
            found[name]["too_long"] = checks.too_long(lengths, numbers, config.max_tokens)
            if name == config.train:
                flat, lengths = _drop(flat, lengths, np.asarray(lengths.max(axis=1) <= config.max_tokens))
                if config.problems == "refuse" or not len(lengths):
                    checks.refuse(
                        name,
                        found[name],
                        "correct the text, or let them be dropped with --set text.problems=drop"
                        if len(lengths)
                        else "no pair is left to train on: correct the text",
                    )
            else:
                write_text(folder, name, split)
            write_ids(folder, name, flat, lengths, words.vocabulary_size)
            report[name] = checks.report(split, found[name], lengths, dropped=name == config.train)
        words.save(folder / TOKENIZER)
        write_json(folder / CHECKS, report)
    for name, part in report.items():
        if said := checks.told(name, part):
            tell(f"{said}; {out / CHECKS} has more")
    return artifact.read(out, "corpus")


def open_corpus(made: artifact.Artifact | Path) -> Corpus:
    """Open a finished corpus.

    Raises:
        ArtifactError: Missing, damaged or another kind of artifact.
    """
    found = made if isinstance(made, artifact.Artifact) else artifact.read(made, "corpus")
    config = found.manifest["config"]
    return Corpus(
        found.path,
        vocab.Tokenizer.load(found.path / TOKENIZER),
        config["source"],
        config["target"],
        config["train"],
        config["valid"],
        tuple(config["test"]),
        read_json(found.path / CHECKS),
    )


def derived(made: artifact.Artifact) -> dict[str, Any]:
    """What a corpus that is made of this one says of itself: the same, but only the name of the folder of its text.

    Where that folder lies changes nothing, and what was made of the text stays current when it is moved.
    """
    said = dict(made.manifest["config"])
    return said | ({"folder": Path(said["folder"]).name} if "folder" in said else {})


def judged_by(made: artifact.Artifact) -> dict[str, Any]:
    """What a BLEU depends on and the corpus' files do not tell: which splits are for what, and the target language."""
    return {key: made.manifest["config"][key] for key in ("valid", "test", "target")}


def read_lengths(made: artifact.Artifact, name: str) -> NDArray[np.int32]:
    """(n, 2) source and target lengths of a split, without its tokenizer; validation and test splits line by line."""
    return _load(made.path, name).lengths


def encode(
    words: vocab.Tokenizer, split: Segments, numbers: Sequence[int]
) -> tuple[NDArray[np.uint32], NDArray[np.int32]]:
    """Encode the pairs of these line numbers.

    Returns:
        All ids in a row (source 0, target 0, source 1, …), and the lengths (n, 2).
    """
    rows, lengths = [], []
    for start in range(0, len(numbers), vocab.CHUNK):
        chunk = [number - 1 for number in numbers[start : start + vocab.CHUNK]]
        source = words.encode([split.source[line] for line in chunk], side="source")
        target = words.encode([split.target[line] for line in chunk], side="target")
        sides = [side for pair in zip(source, target, strict=True) for side in pair]
        rows.append(np.fromiter(chain.from_iterable(sides), dtype=np.uint32))
        lengths.append(np.array([len(side) for side in sides], dtype=np.int32).reshape(-1, 2))
    return np.concatenate(rows), np.concatenate(lengths)


def write_ids(folder: Path, name: str, flat: NDArray[Any], lengths: NDArray[np.int32], vocabulary: int) -> None:
    """Write a split's ids, in a row, and where each side begins; lengths (n, 2): see `encode`."""
    offsets = np.zeros(lengths.size + 1, dtype=np.int64)
    np.cumsum(lengths.reshape(-1), out=offsets[1:])
    np.save(folder / f"{name}.ids.npy", flat.astype(np.uint16 if vocabulary <= 1 << 16 else np.uint32))
    np.save(folder / f"{name}.offsets.npy", offsets)


def _load(folder: Path, name: str) -> ParallelIds:
    ids, offsets = (
        np.load(folder / f"{name}.{part}.npy", mmap_mode="r", allow_pickle=False) for part in ("ids", "offsets")
    )
    # a plain view of the map: slicing a np.memmap is many times slower
    return ParallelIds(ids.view(np.ndarray), np.array(offsets))


def _tokenizer(config: Text, train: Segments, usable: Sequence[int], given: Path | None) -> vocab.Tokenizer:
    if given is not None:
        return vocab.Tokenizer.load(given, source=config.source, target=config.target)
    text = [side[number - 1] for side in (train.source, train.target) for number in usable]
    return vocab.train(text, kind=config.tokenizer, vocabulary=config.vocabulary)


def _drop(
    flat: NDArray[np.uint32], lengths: NDArray[np.int32], keep: NDArray[np.bool_]
) -> tuple[NDArray[np.uint32], NDArray[np.int32]]:
    return flat[np.repeat(keep, lengths.sum(axis=1))], lengths[keep]


def write_text(folder: Path, name: str, split: Segments) -> None:
    """Write a validation or test split's text, line by line."""
    for side, lines in (("source", split.source), ("target", split.target)):
        (folder / f"{name}.{side}.txt").write_bytes("".join(f"{line}\n" for line in lines).encode())
