"""The runner against the Python runtime on the test sentences of a corpus."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.android_runner.contestants import Given
from tprune.android_runner import identity
from tprune.android_runner.build import Runner
from tprune.benchmarks import quality
from tprune.model import decode
from tprune.text import plain_tokenizer


@pytest.mark.parametrize("name", ["dense", "small"])
def test_every_test_sentence_is_translated_alike(
    runners: Callable[[str], Runner], given: Given, tmp_path: Path, name: str
) -> None:
    runners("onnxruntime")
    words = plain_tokenizer.load(given.bundles[name].path)
    sentences = quality.spread(given.corpus, 500, words)
    found = identity.compare(given.bundles[name], sentences, tmp_path)
    assert found["identical_to_python"] == found["sentences"] == len(sentences) > 20
    assert found["runner_overhead"] > 0


def test_a_wrong_translation_is_found(
    runners: Callable[[str], Runner], given: Given, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runners("onnxruntime")
    monkeypatch.setattr(decode, "one_by_one", lambda *_: lambda ids: [7, 7])
    found = identity.compare(given.bundles["dense"], quality.spread(given.corpus, 30), tmp_path)
    assert found["identical_to_python"] == 0
    assert found["valid"]["reasons"][0].startswith("0 of ")
