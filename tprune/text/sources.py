"""Where parallel text comes from: files, a Hugging Face dataset, or the embedded grammar."""

import gzip
import lzma
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tprune.artifact import sha256
from tprune.config import Text
from tprune.errors import InputError
from tprune.text import synthetic

SHOWN = 5  # line numbers named in a report

OPENERS: Mapping[str, Callable[[Path], Any]] = {"": lambda path: path.open("rb"), ".gz": gzip.open, ".xz": lzma.open}


@dataclass(frozen=True)
class Segments:
    """One split as it was read: line i of both sides is the same segment.

    Attributes:
        source: Source sentences without surrounding whitespace.
        target: Target sentences, as many.
        stripped: Numbers (from 1) of the lines that had whitespace around them or a line break inside.
    """

    source: list[str]
    target: list[str]
    stripped: list[int] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.source)


def names(config: Text) -> list[str]:
    """The splits to read, training first, each once.

    Raises:
        InputError: Training text would be validation or test text too.
    """
    held_out = list(dict.fromkeys((config.valid, *config.test)))
    if config.train in held_out:
        raise InputError(
            "the training split cannot be tested on",
            where="text.train",
            got=f"train = {config.train}, valid = {config.valid}, test = {', '.join(config.test)}",
            fix="name other splits in text.valid and text.test",
        )
    return [config.train, *held_out]


def read(config: Text) -> dict[str, Segments]:
    """Read every split, by name, training first.

    Raises:
        InputError: Everything that keeps the input from being read, in one.
    """
    return READERS[config.kind](config)


def hashes(config: Text) -> dict[str, str]:
    """SHA-256 of each file the text is read from, by its name; empty for text that is not in files.

    Raises:
        InputError: Files are missing or ambiguous, or the splits are the same.
    """
    names(config)
    if config.kind == "files":
        return {path.name: sha256(path) for pair in _files(config).values() for path in pair}
    folder = Path(config.dataset or "")
    if config.kind == "dataset" and config.dataset and folder.is_dir():
        return {str(path.relative_to(folder)): sha256(path) for path in sorted(folder.rglob("*")) if path.is_file()}
    return {}


def clean(source: Sequence[str], target: Sequence[str]) -> Segments:
    """Take off surrounding whitespace, and turn a line break inside a segment into a space."""
    sides: list[list[str]] = []
    changed: set[int] = set()
    for side in (source, target):
        sides.append([text.strip().replace("\n", " ") for text in side])
        changed.update(number for number, (old, new) in enumerate(zip(side, sides[-1], strict=True), 1) if old != new)
    return Segments(sides[0], sides[1], sorted(changed))


def numbered(lines: Sequence[int], unit: str = "line") -> str:
    """`lines 3, 9, 12 …`, the first few."""
    shown = ", ".join(str(line) for line in lines[:SHOWN])
    return f"{unit}{'s' if len(lines) > 1 else ''} {shown}{' …' if len(lines) > SHOWN else ''}"


def _read_files(config: Text) -> dict[str, Segments]:
    problems: list[str] = []
    found: dict[str, Segments] = {}
    for name, pair in _files(config).items():
        sides = []
        for path in pair:
            try:
                sides.append(_lines(path))
            except ValueError as error:
                problems.append(f"{path.name}: {error}")
        if len(sides) < 2:
            continue
        if len(sides[0]) != len(sides[1]):
            problems.append(
                f"{name}: unequal line counts, {pair[0].name} has {len(sides[0])}, {pair[1].name} has {len(sides[1])}"
            )
        else:
            found[name] = clean(*sides)
    if problems:
        raise InputError(
            "cannot use the parallel text",
            where=config.folder,
            problems=problems,
            fix="correct these files: UTF-8, one segment a line, the same line on both sides",
        )
    return found


def _files(config: Text) -> dict[str, tuple[Path, Path]]:
    """The two files of each split."""
    if config.folder is None:
        raise InputError(
            "no folder with parallel text",
            where="text.folder",
            wanted="a folder with SPLIT.LANG[.gz|.xz]",
            fix="give it with --set text.folder=...",
        )
    folder = Path(config.folder)
    if not folder.is_dir():
        raise InputError("no such folder", where=f"text.folder = {folder}", fix="give it with --set text.folder=...")
    problems: list[str] = []
    found: dict[str, tuple[Path, Path]] = {}
    for name in names(config):
        pair = []
        for language in (config.source, config.target):
            there = [path for ending in OPENERS if (path := folder / f"{name}.{language}{ending}").exists()]
            if not there:
                problems.append(f"{name}.{language}[.gz|.xz] is missing")
            elif len(there) > 1:
                problems.append(f"{' and '.join(path.name for path in there)}: only one may be there")
            elif not there[0].is_file():
                problems.append(f"{there[0].name} is a directory, not a file")
            else:
                pair.append(there[0])
        if len(pair) == 2:
            found[name] = (pair[0], pair[1])
    if problems:
        here = sorted(path.name for path in folder.iterdir())
        raise InputError(
            "cannot find the parallel text",
            where=folder,
            problems=problems,
            got=f"a folder with {', '.join(here[:20]) or 'nothing'}{' …' if len(here) > 20 else ''}",
            fix="set text.folder, text.source, text.target, text.train, text.valid and text.test to match",
        )
    return found


def _lines(path: Path) -> list[str]:
    """Lines of a file, split at line feeds only: other separators belong to the text.

    Raises:
        ValueError: Truncated, not UTF-8, or empty; says so.
    """
    ending = path.suffix if path.suffix in OPENERS else ""
    try:
        with OPENERS[ending](path) as file:
            data: bytes = file.read()
    except (EOFError, OSError, lzma.LZMAError, zlib.error) as error:
        raise ValueError(f"cannot be read, truncated or damaged ({error})") from None
    rows = data.removeprefix(b"\xef\xbb\xbf").split(b"\n")
    if not rows[-1]:
        rows.pop()
    lines, bad = [], []
    for number, row in enumerate(rows, 1):
        try:
            lines.append(row.decode("utf-8"))
        except UnicodeDecodeError:
            bad.append(number)
    if bad:
        raise ValueError(f"not UTF-8 in {numbered(bad)}")
    if not lines:
        raise ValueError("empty file")
    return lines


def _read_dataset(config: Text) -> dict[str, Segments]:
    import datasets

    if config.dataset is None:
        raise InputError(
            "no dataset named",
            where="text.dataset",
            wanted="a name on the Hugging Face Hub or a folder",
            fix="give it with --set text.dataset=...",
        )
    try:
        tables = datasets.load_dataset(config.dataset, config.dataset_config)
    except Exception as error:  # the library raises a different one for every cause
        raise InputError(
            "cannot load the dataset",
            where=f"text.dataset = {config.dataset}",
            got=error.__cause__ or error,
            fix="check text.dataset and text.dataset_config, and the network",
        ) from None
    problems: list[str] = []
    found: dict[str, Segments] = {}
    for name in names(config):
        if name not in tables:
            problems.append(f"no split {name}, there are {', '.join(sorted(tables))}")
            continue
        try:
            sides = [["" if text is None else str(text) for text in side] for side in _columns(tables[name], config)]
        except KeyError as error:
            problems.append(f"{name}: {error.args[0]}")
            continue
        if sides[0]:
            found[name] = clean(*sides)
        else:
            problems.append(f"{name}: empty split")
    if problems:
        raise InputError(
            "cannot use the dataset",
            where=f"text.dataset = {config.dataset}",
            problems=problems,
            fix="set text.source, text.target, text.train, text.valid and text.test to match",
        )
    return found


def _columns(table: Any, config: Text) -> Iterator[list[Any]]:
    """Source and target column; KeyError says what is there instead."""
    languages = (config.source, config.target)
    if "translation" in table.column_names:
        pairs = [pair if isinstance(pair, dict) else {} for pair in table["translation"]]  # a row may lack any part
        there = sorted({language for pair in pairs for language in pair})
        missing = [language for language in languages if language not in there]
        if missing:
            found = ", ".join(there) or "none"
            raise KeyError(f"no language {' and '.join(missing)} in `translation`, there are {found}")
        return ([pair.get(language) for pair in pairs] for language in languages)
    if not set(languages) <= set(table.column_names):
        raise KeyError(
            f"no column `translation` or {' and '.join(languages)}, there are {', '.join(table.column_names)}"
        )
    return (list(table[language]) for language in languages)


def _read_synthetic(config: Text) -> dict[str, Segments]:
    if (config.source, config.target) != ("en", "de"):
        raise InputError(
            "the embedded corpus is English to German",
            where="text.source, text.target",
            got=f"{config.source}, {config.target}",
            wanted="en, de",
            fix="leave these at their defaults, or set text.kind",
        )
    train, *held_out = names(config)
    return {
        name: Segments([pair.source for pair in pairs], [pair.target for pair in pairs])
        for name, pairs in synthetic.splits(config.sentences, config.seed, train, held_out).items()
    }


READERS: Mapping[str, Callable[[Text], dict[str, Segments]]] = {
    "files": _read_files,
    "dataset": _read_dataset,
    "synthetic": _read_synthetic,
}
