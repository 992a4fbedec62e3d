"""The runner against the Python runtime on the test sentences of a corpus."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.android_runner.contestants import Given
from tests.conftest import ROOT
from tprune import artifact
from tprune.android_runner import build, identity
from tprune.android_runner.build import Runner
from tprune.benchmarks import quality, record
from tprune.model import decode
from tprune.text import plain_tokenizer

RECORDED = ROOT / "benchmarks" / "results" / "runners" / "identity.json"


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


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("engine", build.RUNNERS)
def test_every_engine_and_precision_translates_alike(
    runners: Callable[[str], Runner], small_bundles: Callable[..., Path], tmp_path: Path, engine: str, precision: str
) -> None:
    runners(engine)
    bundle = artifact.read(small_bundles(engine, precision), "bundle")
    sentences = [np.random.randint(4, 40, np.random.randint(1, 13)).tolist() for _ in range(80)]
    found = identity.compare(bundle, sentences, tmp_path)
    assert found["identical_to_python"] == found["sentences"] == 80
    assert found["mode"] == {"onnxruntime": "whole", "executorch": "buffered"}[engine]


def test_what_was_measured_on_real_sentences() -> None:
    rows = [row.model_dump() for row in record.read_all(RECORDED)]
    dense = [row for row in rows if row["model"] == "dense"]
    assert {(row["engine"], row["precision"]) for row in dense} == {
        (engine, precision) for engine in build.RUNNERS for precision in ("fp32", "int8")
    }
    assert all(row["valid"]["ok"] for row in dense)
    for row in rows:
        assert (row["sentences"], row["identical_to_python"]) == (500, 500)
        # of a pruned model that the engine is quick with, the runner's own share may be more: then the row says so
        assert row["valid"]["ok"] == (0 < row["runner_overhead"] <= 0.02)
        assert row["environment"]["kind"] == "host-x86"
        assert row["dataset"] == "multi30k-ende" and not row["made_by"]["dirty"]


def test_a_wrong_translation_is_found(
    runners: Callable[[str], Runner], given: Given, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runners("onnxruntime")
    monkeypatch.setattr(decode, "one_by_one", lambda *_: lambda ids: [7, 7])
    found = identity.compare(given.bundles["dense"], quality.spread(given.corpus, 30), tmp_path)
    assert found["identical_to_python"] == 0
    assert found["valid"]["reasons"][0].startswith("0 of ")
