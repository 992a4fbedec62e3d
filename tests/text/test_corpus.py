"""The corpus artifact against its text, read another way."""

import lzma
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.model.test_origin import marian
from tests.text.folders import TEST, TRAIN, VALID, text, write
from tprune import artifact
from tprune.config import Text
from tprune.errors import ArtifactError, InputError
from tprune.text.corpus import Corpus, inputs, open_corpus, prepare
from tprune.text.vocab import Tokenizer


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """Three clean splits; the folder they came from is gone."""
    folder = tmp_path_factory.mktemp("plain")
    made = prepare(text(folder / "text"), folder / "corpus")
    shutil.rmtree(folder / "text")
    return open_corpus(made)


def texts(corpus: Corpus, name: str) -> list[tuple[str, str]]:
    split = corpus.split(name)
    sides = zip(*(split[index] for index in range(len(split))), strict=True)
    source, target = (corpus.tokenizer.decode([ids.tolist() for ids in side]) for side in sides)
    return list(zip(source, target, strict=True))


def test_ids_are_the_tokenizers(plain: Corpus) -> None:
    assert plain.splits == ("train", "valid", "test")
    for name, pairs in (("train", TRAIN), ("valid", VALID), ("test", TEST)):
        split = plain.split(name)
        assert len(split) == len(pairs)
        sides = [plain.tokenizer.encode(list(side)) for side in zip(*pairs, strict=True)]
        for index, expected in enumerate(zip(*sides, strict=True)):
            assert tuple(ids.tolist() for ids in split[index]) == expected
            assert split.lengths[index].tolist() == [len(ids) for ids in expected]
        assert split.lengths.dtype == np.int32
        assert split.ids.dtype == np.uint16
        assert isinstance(split.ids.base, np.memmap)
        assert [ids.tolist() for ids in split[-1]] == [ids.tolist() for ids in split[len(split) - 1]]
        for outside in (len(split), -len(split) - 1):
            with pytest.raises(IndexError):
                split[outside]


def test_text_of_held_out_splits_is_kept(plain: Corpus) -> None:
    assert list(zip(*plain.raw("valid"), strict=True)) == VALID
    assert list(zip(*plain.raw("test"), strict=True)) == TEST
    with pytest.raises(ArtifactError, match=r"no such split · got train · wanted valid \| test"):
        plain.raw("train")
    with pytest.raises(ArtifactError, match=r"no such split · got test.2016 · wanted train \| valid \| test"):
        plain.split("test.2016")


def test_same_text_same_corpus(plain: Corpus, tmp_path: Path) -> None:
    again = prepare(text(tmp_path / "text"), tmp_path / "corpus")
    assert again.identity == artifact.read(plain.path).identity


def test_changed_text_or_tokenizer_makes_it_stale(tmp_path: Path) -> None:
    config = text(tmp_path / "text")
    made = prepare(config, tmp_path / "corpus")
    assert artifact.is_current(made.path, artifact.fingerprint("corpus", inputs(config), {}))
    words = open_corpus(made).tokenizer
    words.save(tmp_path / "words")
    given = inputs(config, tmp_path / "words")
    assert given == inputs(config, tmp_path / "words" / "tokenizer.json") != inputs(config)
    (tmp_path / "words" / "source.spm").write_bytes(b"other")
    assert inputs(config, tmp_path / "words") != given
    write(tmp_path / "text", "test", VALID[:3])
    assert not artifact.is_current(made.path, artifact.fingerprint("corpus", inputs(config), {}))
    with pytest.raises(ArtifactError, match="--force"):
        prepare(config, made.path)
    assert list(zip(*open_corpus(prepare(config, made.path, force=True)).raw("test"), strict=True)) == VALID[:3]


BAD = [("Berlin", "Berlin"), ("", "nichts"), TRAIN[0], VALID[0], ("so long " * 30, "so lang " * 3)]
ODD = [("Bonn", "Bonn"), ("", "gar nichts"), ("ever so long " * 30, "immer so lang " * 3), TEST[0]]


def test_bad_training_pairs_are_dropped_and_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = text(tmp_path / "text", max_tokens=60)
    write(tmp_path / "text", "train", [*BAD[:2], *TRAIN, *BAD[2:]])
    corpus = open_corpus(prepare(config, tmp_path / "corpus"))
    assert texts(corpus, "train") == TRAIN
    assert (corpus.checks["train"]["read"], corpus.checks["train"]["kept"]) == (65, 60)
    assert {kind: entry["first_lines"] for kind, entry in corpus.checks["train"]["problems"].items()} == {
        "identical": [1],
        "empty": [2],
        "duplicate": [63],
        "held_out": [64],
        "too_long": [65],
        "stripped": [65],
    }
    assert capsys.readouterr().err == (
        "train: 60 of 65 pairs kept; a side is empty: 1 (line 2); source and target are the same: 1 (line 1); pair "
        "occurred before: 1 (line 63); source or target stands in a validation or test split: 1 (line 64); a side is "
        f"longer than text.max_tokens: 1 (line 65); {tmp_path / 'corpus' / 'checks.json'} has more\n"
    )


def test_held_out_text_is_reported_on_and_left_whole(tmp_path: Path) -> None:
    config = text(tmp_path / "text", max_tokens=60, problems="refuse")
    write(tmp_path / "text", "test", [*TEST, *ODD])
    corpus = open_corpus(prepare(config, tmp_path / "corpus"))
    left = [(source.strip(), target.strip()) for source, target in (*TEST, *ODD)]
    assert list(zip(*corpus.raw("test"), strict=True)) == left
    assert texts(corpus, "test") == left
    assert not corpus.checks["test"]["dropped"]
    assert {kind: entry["first_lines"] for kind, entry in corpus.checks["test"]["problems"].items()} == {
        "identical": [8],
        "empty": [9],
        "too_long": [10],
        "stripped": [10],
        "duplicate": [11],
    }


def test_validation_text_that_is_tested_on_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = text(tmp_path / "text")
    write(tmp_path / "text", "valid", [*VALID[:3], TEST[1], (VALID[4][0], TEST[2][1])])
    made = prepare(settings, tmp_path / "corpus")
    assert "valid: 2 of 5 pairs are known from a test split (lines 4, 5): what is chosen" in capsys.readouterr().err
    assert len(open_corpus(made).split("valid")) == 5


def test_refused_when_told_so(tmp_path: Path) -> None:
    config = text(tmp_path / "text", max_tokens=60, problems="refuse")
    write(tmp_path / "text", "train", [*TRAIN, *BAD])
    with pytest.raises(InputError) as refused:
        prepare(config, tmp_path / "corpus")
    assert str(refused.value) == (
        "train: pairs that cannot be trained on · a side is empty: 1 (line 62); source and target are the same: 1 "
        "(line 61); pair occurred before: 1 (line 63); source or target stands in a validation or test split: 1 "
        "(line 64); a side is longer than text.max_tokens: 1 (line 65) · correct the text, or let them be dropped with "
        "--set text.problems=drop"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["text"]


@pytest.mark.parametrize(("train", "max_tokens"), [([("same", "same")] * 3, 128), (TRAIN, 4)])
def test_nothing_left_to_train_on(tmp_path: Path, train: list[tuple[str, str]], max_tokens: int) -> None:
    config = text(tmp_path / "text", max_tokens=max_tokens)
    write(tmp_path / "text", "train", train)
    with pytest.raises(InputError, match="no pair is left to train on"):
        prepare(config, tmp_path / "corpus")
    assert not (tmp_path / "corpus").exists()


@pytest.mark.filterwarnings("ignore:Recommended. pip install sacremoses")
def test_a_checkpoints_tokenizer_is_kept(tmp_path: Path) -> None:
    (tmp_path / "parts").mkdir()
    marian(tmp_path / "parts").save_pretrained(tmp_path / "model")
    theirs = Tokenizer.load(tmp_path / "model")
    corpus = open_corpus(prepare(text(tmp_path / "text"), tmp_path / "corpus", tokenizer=tmp_path / "model"))
    shutil.rmtree(tmp_path / "model")
    assert type(corpus.tokenizer.backend) is type(theirs.backend)
    split = corpus.split("test")
    assert split[0][0].tolist() == theirs.encode([TEST[0][0]])[0] == corpus.tokenizer.encode([TEST[0][0]])[0]
    assert split[0][1].tolist() == theirs.encode([TEST[0][1]], side="target")[0]


@pytest.mark.parametrize("tokenizer", ["unigram", "bpe"])
def test_synthetic_text(tmp_path: Path, tokenizer: str) -> None:
    config = Text.model_validate({"kind": "synthetic", "sentences": 300, "vocabulary": 500, "tokenizer": tokenizer})
    corpus = open_corpus(prepare(config, tmp_path / "corpus"))
    assert [len(corpus.split(name)) for name in corpus.splits] == [300, 500, 500]
    assert texts(corpus, "valid") == list(zip(*corpus.raw("valid"), strict=True))
    assert all(not split["problems"] for split in corpus.checks.values())


def test_real_text(real_text: Path, tmp_path: Path) -> None:
    folder = real_text / "multi30k-ende"
    config = Text(
        folder=str(folder), train="valid", valid="test.2017", test=("test.2016", "test.coco"), vocabulary=2000
    )
    corpus = open_corpus(prepare(config, tmp_path / "corpus"))
    for name in ("test.2017", "test.2016", "test.coco"):
        for side, language in enumerate(("en", "de")):
            lines = lzma.decompress((folder / f"{name}.{language}.xz").read_bytes()).decode().removesuffix("\n")
            assert corpus.raw(name)[side] == [line.strip() for line in lines.split("\n")]
    assert len(corpus.split("valid")) == 1014
    assert texts(corpus, "test.2016") == list(zip(*corpus.raw("test.2016"), strict=True))
