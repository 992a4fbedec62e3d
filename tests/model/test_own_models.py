"""A model that is tprune's own is a start as any other one: it stays as it is."""

from pathlib import Path

import pytest

from tests.artifacts import error_of
from tests.model.random_models import ours
from tprune.artifact import sha256
from tprune.model import checkpoint
from tprune.model.convert import convert
from tprune.text import synthetic
from tprune.text.vocab import files, train

FIRST = synthetic.splits(60, 1, "train", [])["train"]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    checkpoint.save(ours(3), tmp_path / "model")
    sides = [side for pair in FIRST for side in (pair.source, pair.target)]
    train(sides, kind="unigram", vocabulary=400).save(tmp_path / "model")
    return tmp_path / "model"


def test_weights_shapes_and_tokenizer_stay(model: Path, tmp_path: Path) -> None:
    made = convert(model, tmp_path / "out")
    names = ["config.json", "generation_config.json", "model.safetensors", *files(model)]
    assert sorted(made.manifest["files"]) == sorted(names)
    assert [sha256(model / name) for name in names] == [sha256(made.path / name) for name in names]


def test_its_languages_are_those_that_it_was_made_for(model: Path, tmp_path: Path) -> None:
    assert error_of(convert, model, tmp_path / "out", languages=("en", "de")) == (
        f"{model}: a model of tprune's translates between the languages that it was made for · got languages en de · "
        "leave them out, or convert the original again"
    )


def test_damaged_ones_are_refused(model: Path, tmp_path: Path) -> None:
    (model / "tokenizer.json").write_text("{")
    assert "cannot read the tokenizer" in error_of(convert, model, tmp_path / "out")
    (model / "model.safetensors").write_bytes(b"")
    assert "truncated or damaged weights" in error_of(convert, model, tmp_path / "out")
    assert not (tmp_path / "out").exists()
