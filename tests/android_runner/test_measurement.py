"""What a device's rows say: every bundle reads its sentences in its own ids."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.android_runner.contestants import QUICK, Given, bundle_of, open_session, rows_of
from tprune import delivery
from tprune.android_runner.build import Runner
from tprune.artifact import Artifact
from tprune.benchmarks import quality
from tprune.delivery_config import DeviceBench
from tprune.export import description
from tprune.export.runtime import open_bundle
from tprune.model.search import Search
from tprune.text import plain_tokenizer, trimmed_corpus, trimming

ONCE = QUICK.model_copy(update={"cold_starts": 1})


@pytest.fixture(scope="module")
def trimmed(given: Given, tmp_path_factory: pytest.TempPathFactory) -> Given:
    """The pruned model has no token that is rare in the corpus, and so ids of its own."""
    words = given.corpus.tokenizer
    order = trimmed_corpus.choose([given.corpus], 40).read
    assert len(order) < words.vocabulary_size
    small = bundle_of(tmp_path_factory.mktemp("trimmed") / "small", trimming.trimmed(words, order), 8)
    return Given(given.text, given.corpus, {**given.bundles, "small": small})


def test_a_trimmed_bundle_translates_as_on_the_host(
    runners: Callable[[str], Runner], trimmed: Given, tmp_path: Path
) -> None:
    runners("onnxruntime")
    for row in rows_of(trimmed, open_session(tmp_path, settings=ONCE)):
        bundle = trimmed.bundles[row.model].path
        search = Search(**description.read(bundle).search)
        words = plain_tokenizer.load(bundle)
        here = quality.translate_tests(open_bundle(bundle, 1), trimmed.corpus, search, "de", words=words)
        assert len({*here.hypotheses}) > 5
        assert row.model_dump()["hypotheses_sha256"] == here.digest


def test_a_folder_for_a_trimmed_bundle_holds_its_own_ids(
    runners: Callable[[str], Runner], trimmed: Given, tmp_path: Path
) -> None:
    runners("onnxruntime")

    def ids(name: str, bundle: Artifact) -> list[list[int]]:
        made = delivery.pack(tmp_path / name, bundle, trimmed.text, "x86_64", DeviceBench(sentences=7), False)
        lines = (made.path / "runs" / "one" / "sentences.txt").read_text().splitlines()
        return [[int(word) for word in line.split()[1:]] for line in lines]

    texts = {
        name: plain_tokenizer.load(trimmed.bundles[name].path).decode(ids(name, trimmed.bundles[name]))
        for name in ("dense", "small")
    }
    assert texts["small"] == texts["dense"]
    assert len(texts["small"]) == 7
