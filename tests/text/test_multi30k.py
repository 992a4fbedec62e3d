"""The whole of Multi30k: what the checks count, counted once more."""

import lzma
from pathlib import Path

import pytest

from tprune.config import Text
from tprune.text import checks, sources
from tprune.text.corpus import open_corpus, prepare

TESTS = ("test.2016", "test.2017", "test.coco")
SIZES = {"train": 29_000, "valid": 1_014, "test.2016": 1_000, "test.2017": 1_000, "test.coco": 461}


@pytest.fixture
def folder(real_text: Path) -> Path:
    return real_text / "multi30k-ende"


def lines(folder: Path, name: str) -> list[tuple[str, str]]:
    """Pairs as they stand in the files."""
    sides = [lzma.decompress((folder / f"{name}.{code}.xz").read_bytes()).decode().split("\n") for code in ("en", "de")]
    assert [side.pop() for side in sides] == ["", ""]
    return list(zip(*sides, strict=True))


def leaks_and_repeats(train: list[tuple[str, str]], held_out: list[tuple[str, str]]) -> tuple[list[int], list[int]]:
    """Lines of pairs a side of which is held out, and of pairs that stood before."""
    first = {pair: number for number, pair in reversed(list(enumerate(train, 1)))}
    repeats = [number for number, pair in enumerate(train, 1) if first[pair] < number]
    english, german = {pair[0] for pair in held_out}, {pair[1] for pair in held_out}
    leaks = [number for number, pair in enumerate(train, 1) if pair[0] in english or pair[1] in german]
    return [number for number in leaks if number not in repeats], repeats


def test_problems_of_all_splits(folder: Path) -> None:
    read = sources.read(Text(folder=str(folder), test=TESTS))
    assert {name: len(split) for name, split in read.items()} == SIZES
    raw = {name: lines(folder, name) for name in SIZES}
    clean = {name: [(english.strip(), german.strip()) for english, german in pairs] for name, pairs in raw.items()}
    for name, split in read.items():
        assert list(zip(split.source, split.target, strict=True)) == clean[name]
        assert split.stripped == [n + 1 for n in range(SIZES[name]) if raw[name][n] != clean[name][n]]
    found = checks.pairs(read["train"], [read[name] for name in SIZES if name != "train"])
    dropped = leaks_and_repeats(clean["train"], [pair for name in SIZES if name != "train" for pair in clean[name]])
    assert (found["held_out"], found["duplicate"]) == dropped
    assert dropped == ([4750, 7929, 15326, 28611, 28761], [14215, 16867, 20149])
    assert found["empty"] == found["identical"] == []
    assert len(checks.kept(read["train"], found)) == 28_992


def test_a_corpus_of_its_smaller_splits(folder: Path, tmp_path: Path) -> None:
    names = {"train": "test.coco", "valid": "test.2017", "test": ("valid",)}
    config = Text.model_validate({"folder": str(folder), "vocabulary": 700, "tokenizer": "bpe", **names})
    corpus = open_corpus(prepare(config, tmp_path / "corpus"))
    clean = {name: [(a.strip(), b.strip()) for a, b in lines(folder, name)] for name in corpus.splits}
    leaks, repeats = leaks_and_repeats(clean["test.coco"], clean["test.2017"] + clean["valid"])
    assert leaks
    clean["test.coco"] = [pair for n, pair in enumerate(clean["test.coco"], 1) if n not in (*leaks, *repeats)]
    for name, expected in clean.items():
        split = corpus.split(name)
        pairs = [split[number] for number in range(len(split))]
        texts = [corpus.tokenizer.decode([pair[side].tolist() for pair in pairs]) for side in (0, 1)]
        assert list(zip(*texts, strict=True)) == expected
        assert corpus.checks[name]["kept"] == len(expected)
        lengths = [[len(side) for side in pair] for pair in pairs]
        assert split.lengths.tolist() == lengths
        assert corpus.checks[name]["tokens"]["target"] == {
            "mean": pytest.approx(sum(length for _, length in lengths) / len(lengths), abs=0.006),
            "longest": max(length for _, length in lengths),
        }
