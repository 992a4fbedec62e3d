"""Reading files and datasets: what comes in, and every way in which it can be broken."""

import gzip
import json
import lzma
from pathlib import Path
from typing import Any

import pytest

from tests.text.folders import TEST, TRAIN, VALID, text, write
from tprune.config import Text
from tprune.errors import InputError
from tprune.text import sources


def said(config: Text) -> str:
    with pytest.raises(InputError) as refused:
        sources.read(config)
    return str(refused.value)


@pytest.mark.parametrize(("ending", "compress"), [(".gz", gzip.compress), (".xz", lzma.compress)])
def test_plain_and_compressed_files_read_alike(tmp_path: Path, ending: str, compress: Any) -> None:
    config = text(tmp_path / "text")
    plain = sources.read(config)
    assert list(plain) == ["train", "valid", "test"]
    for name, pairs in (("train", TRAIN), ("valid", VALID), ("test", TEST)):
        assert list(zip(plain[name].source, plain[name].target, strict=True)) == pairs
    file = tmp_path / "text" / "train.de"
    file.with_name(f"train.de{ending}").write_bytes(compress(file.read_bytes()))
    file.unlink()
    assert sources.read(config) == plain


def test_only_line_feeds_end_a_line_and_whitespace_around_is_counted(tmp_path: Path) -> None:
    config = text(tmp_path / "text")
    odd = "a\u2028b\u2029c\x85d\x0be\x0cf\x1cg\rh\u00a0i"
    (tmp_path / "text" / "test.en").write_bytes(f"\ufeffone\n  two\t\nthree\r\n{odd}\n\u00a0five".encode())
    (tmp_path / "text" / "test.de").write_bytes(b"eins\nzwei\ndrei \nvier\n\n")
    test = sources.read(config)["test"]
    assert test.source == ["one", "two", "three", odd, "five"]
    assert test.target == ["eins", "zwei", "drei", "vier", ""]
    assert test.stripped == [2, 3, 5]


def test_missing_files_are_all_named_with_what_is_there(tmp_path: Path) -> None:
    config = text(tmp_path / "text")
    (tmp_path / "text" / "valid.de").unlink()
    (tmp_path / "text" / "test.en").unlink()
    (tmp_path / "text" / "test.en").mkdir()
    (tmp_path / "text" / "train.en.gz").write_bytes(b"")
    assert said(config) == (
        f"{tmp_path / 'text'}: cannot find the parallel text · train.en and train.en.gz: only one may be there; "
        "valid.de[.gz|.xz] is missing; test.en is a directory, not a file · got a folder with test.de, test.en, "
        "train.de, train.en, train.en.gz, valid.en · set text.folder, text.source, text.target, text.train, text.valid "
        "and text.test to match"
    )


def test_broken_files_are_all_named(tmp_path: Path) -> None:
    config = text(tmp_path / "text")
    folder = tmp_path / "text"
    lines = (folder / "train.en").read_bytes().split(b"\n")
    lines[2], lines[6] = b"\xff" + lines[2], b"caf\xe9"
    (folder / "train.en").write_bytes(b"\n".join(lines))
    (folder / "valid.en").write_bytes(b"")
    whole = lzma.compress((folder / "valid.de").read_bytes())
    (folder / "valid.de").unlink()
    (folder / "valid.de.xz").write_bytes(whole[: len(whole) // 2])
    with (folder / "test.de").open("ab") as file:
        file.write(b"zu viel\n")
    assert said(config) == (
        f"{folder}: cannot use the parallel text · train.en: not UTF-8 in lines 3, 7; valid.en: empty file; "
        "valid.de.xz: cannot be read, truncated or damaged (Compressed file ended before the end-of-stream marker was "
        "reached); test: unequal line counts, test.en has 7, test.de has 8 · correct these files: UTF-8, one segment a "
        "line, the same line on both sides"
    )


@pytest.mark.parametrize("damage", ["truncated", "flipped", "no gzip"])
def test_damaged_gzip(tmp_path: Path, damage: str) -> None:
    config = text(tmp_path / "text")
    file = tmp_path / "text" / "train.de"
    packed = bytearray(gzip.compress(file.read_bytes()))
    if damage == "truncated":
        del packed[-20:]
    elif damage == "flipped":
        packed[30:40] = bytes(10)
    else:
        packed[:2] = b"no"
    file.unlink()
    file.with_name("train.de.gz").write_bytes(packed)
    assert "train.de.gz: cannot be read, truncated or damaged (" in said(config)


def test_settings_that_cannot_work(tmp_path: Path) -> None:
    assert "--set text.folder=" in said(Text())
    assert f"text.folder = {tmp_path / 'none'}: no such folder" in said(Text(folder=str(tmp_path / "none")))
    assert "--set text.dataset=" in said(Text(kind="dataset"))
    assert "English to German · got en, fr · wanted en, de" in said(Text(kind="synthetic", target="fr"))
    assert "the training split cannot be tested on" in said(Text(kind="synthetic", valid="train"))


def test_files_of_a_changed_folder_have_other_hashes(tmp_path: Path) -> None:
    config = text(tmp_path / "text")
    before = sources.hashes(config)
    assert before.keys() == {f"{name}.{language}" for name in ("train", "valid", "test") for language in ("en", "de")}
    write(tmp_path / "text", "test", VALID)
    after = sources.hashes(config)
    assert {name for name in before if before[name] != after[name]} == {"test.en", "test.de"}
    assert sources.hashes(Text(kind="synthetic")) == {}


@pytest.fixture
def dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that `datasets` loads, with both forms of columns."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    folder = tmp_path / "dataset"
    folder.mkdir()
    for name, pairs in (("train", TRAIN), ("test", TEST)):
        rows = [{"translation": {"en": source, "de": target}} for source, target in pairs]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def test_a_dataset_with_a_translation_column(dataset: Path) -> None:
    config = Text(kind="dataset", dataset=str(dataset), valid="test")
    found = sources.read(config)
    assert list(zip(found["train"].source, found["train"].target, strict=True)) == TRAIN
    assert list(zip(found["test"].source, found["test"].target, strict=True)) == TEST
    assert sources.hashes(config).keys() == {"train.jsonl", "test.jsonl"}
    assert "no split valid, there are test, train" in said(Text(kind="dataset", dataset=str(dataset)))
    assert "train: no language fr in `translation`, there are " in said(config.model_copy(update={"target": "fr"}))


def test_a_dataset_with_a_column_for_each_language(dataset: Path) -> None:
    rows: list[dict[str, str | None]] = [{"de": "eins", "en": "one "}, {"de": "zwei\nhalb", "en": None}]
    for name in ("train", "test"):
        (dataset / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = Text(kind="dataset", dataset=str(dataset), valid="test")
    assert sources.read(config)["train"] == sources.Segments(["one", ""], ["eins", "zwei halb"], [1, 2])
    assert "no column `translation` or en and fr, there are de, en" in said(config.model_copy(update={"target": "fr"}))


def test_a_dataset_of_parquet_files(dataset: Path) -> None:
    import datasets

    for name, pairs in (("train", TRAIN), ("test", TEST)):
        (dataset / f"{name}.jsonl").unlink()
        rows = [
            {"id": number, "translation": {"de": german, "en": english}}
            for number, (english, german) in enumerate(pairs)
        ]
        datasets.Dataset.from_list(rows).to_parquet(dataset / f"{name}.parquet")
    config = Text(kind="dataset", dataset=str(dataset), valid="test")
    read, before = sources.read(config), sources.hashes(config)
    assert list(zip(read["train"].source, read["train"].target, strict=True)) == TRAIN
    assert list(zip(read["test"].source, read["test"].target, strict=True)) == TEST
    datasets.Dataset.from_list(rows[:3]).to_parquet(dataset / "test.parquet")
    after = sources.hashes(config)
    assert {name for name in before if before[name] != after[name]} == {"test.parquet"}
    changed = sources.read(config)
    assert (len(changed["test"]), changed["train"]) == (3, read["train"])


def test_a_dataset_with_empty_rows(dataset: Path) -> None:
    rows = [
        {"translation": None},
        {"translation": {"en": None, "de": "eins"}},
        {"translation": {"en": "two", "de": "zwei"}},
    ]
    (dataset / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = sources.read(Text(kind="dataset", dataset=str(dataset), valid="test"))["train"]
    assert found == sources.Segments(["", "", "two"], ["", "eins", "zwei"])
    for name in ("train", "test"):
        (dataset / f"{name}.jsonl").write_text('{"translation": null}\n{"translation": null}\n')
    assert "no language en and de in `translation`, there are none" in said(
        Text(kind="dataset", dataset=str(dataset), valid="test")
    )


def test_a_dataset_that_is_damaged(dataset: Path) -> None:
    (dataset / "test.jsonl").write_text('{"translation": {"en": "one", "de": "eins"}}\n{"translation": ')
    said_of_it = said(Text(kind="dataset", dataset=str(dataset), valid="test"))
    assert "cannot load the dataset · got " in said_of_it
    assert "JSON" in said_of_it


def test_a_dataset_that_is_not_there(tmp_path: Path) -> None:
    assert "cannot load the dataset" in said(Text(kind="dataset", dataset=str(tmp_path / "none")))
