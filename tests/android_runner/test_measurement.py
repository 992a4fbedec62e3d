"""What a device's rows say: every bundle reads its sentences in its own ids."""

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.android_runner import test_journal
from tests.android_runner.contestants import QUICK, Given, bundle_of, open_session, rows_of
from tests.artifacts import error_of
from tests.command import tprune
from tprune import delivery
from tprune.android_runner import files, journal, links, measurement, readings
from tprune.android_runner.build import Runner
from tprune.android_runner.links import Local
from tprune.artifact import Artifact
from tprune.benchmarks import quality, record
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


NAMES = ("my bundle", 'it\'s "small"', "a;touch owned", "-rf", "ein schönes", "x" * 200)


def test_bundles_may_be_called_anything(
    runners: Callable[[str], Runner], given: Given, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runners("onnxruntime")
    monkeypatch.setattr(links, "open_link", lambda _: Local(str(tmp_path / "device")))
    bundles = [tmp_path / "bundles" / name for name in NAMES]
    for bundle in bundles:
        shutil.copytree(given.bundles["small"].path, bundle)
    (bundles[0] / "deeper").mkdir()
    quick = {"sentences": 3, "runs": 3, "warmup": 0, "seconds": 0, "cold_starts": 1}
    status = tprune(
        monkeypatch, "bench", given.bundles["dense"].path, *bundles, bundles[0] / "deeper" / "..", "--corpus",
        given.text.path, "--out", tmp_path / "results", "--device", "local", "--set", "bench.bootstrap=20",
        *(word for key, value in quick.items() for word in ("--set", f"device.{key}={value}")),
    )  # fmt: skip
    assert status == 0
    assert [row.model for row in record.read_all(tmp_path / "results")] == ["dense", *NAMES, ".."]
    assert not [*Path().glob("owned"), *tmp_path.rglob("owned")]
    assert {path.name for path in tmp_path.iterdir()} == {"bundles", "device", "results"}


def test_words_of_names_are_told_apart() -> None:
    names = [*NAMES, *(f"{name}." for name in NAMES), "..", ".", "my_bundle", "my\tbundle", "a/b", "\udcff"]
    words = [measurement.word_of("onnxruntime", "fp32", name) for name in names]
    assert len({*words}) == len(names)
    assert all(files.checked(f"runs/{word}-test-01234567") and len(word) < 120 for word in words)
    assert measurement.word_of("onnxruntime", "fp32", "small-1.5x_b") == "onnxruntime-fp32-small-1.5x_b"


def test_passes_of_different_engines_say_what_to_delete(
    runners: Callable[[str], Runner], given: Given, tmp_path: Path
) -> None:
    runners("onnxruntime")
    rows_of(given, open_session(tmp_path, settings=ONCE))
    done = tmp_path / "done" / "onnxruntime-fp32-small-0.jsonl"
    older = [json.loads(line) for line in done.read_text().splitlines()[:-1]]
    older[2]["engine_version"] = "1.2.3"
    done.write_bytes(test_journal.written(*older))
    for _ in range(2):
        error = error_of(rows_of, given, open_session(tmp_path, settings=ONCE))
        assert "these runs cannot be compared" in error and "small: onnxruntime 1.2.3" in error
        assert f"delete {tmp_path / 'done'} and run the same command again" in error
    shutil.rmtree(tmp_path / "done")
    assert len(rows_of(given, open_session(tmp_path, settings=ONCE))) == 2


def test_what_was_timed_is_what_was_scored(runners: Callable[[str], Runner], given: Given, tmp_path: Path) -> None:
    runners("onnxruntime")
    settings = ONCE.model_copy(update={"sustained_minutes": 0.001})

    def reasons() -> list[list[str]]:
        rows = rows_of(given, open_session(tmp_path, settings=settings))
        return [[reason for reason in row.valid.reasons if "otherwise" in reason] for row in rows]

    assert reasons() == [[], []]
    for name in ("small-0", "dense-sustained-0.001"):
        done = tmp_path / "done" / f"onnxruntime-fp32-{name}.jsonl"
        lines = [json.loads(line) for line in done.read_text().splitlines()[:-1]]
        timed = [line for line in lines if line["kind"] == "sentence" and line["timed"]]
        timed[-1]["tokens"].append(7)
        done.write_bytes(test_journal.written(*lines))
    dense, small = reasons()
    for found in (dense, small):
        assert len(found) == 1
        assert re.fullmatch("1 of [0-9]+ timed sentences came out otherwise than in the test pass", found[0])


def test_clocks_and_temperatures_of_the_timed_part() -> None:
    def state(at: int, khz: dict[str, int | None] | None, mc: dict[str, int | None] | None) -> dict[str, Any]:
        memory = {"resident_bytes": None, "peak_resident_bytes": None}
        return {"kind": "state", "at_ns": at, "frequency_khz": khz, "temperature_mc": mc, **memory}

    def run(*states: dict[str, Any]) -> journal.Journal:
        start = test_journal.START | {"cpus": [0, 4]}
        return journal.parse(test_journal.written(start, test_journal.LOAD, *states))

    before = state(0, {"0": 1, "4": 1}, {"0 skin": 1})  # not timed yet
    one = run(before, state(1, {"0": 300, "1": 5, "4": None}, {"0 skin": 31_500, "1 gpu": None}), state(2, None, None))
    absent = {"2 off": 0, "3 absent": -274_000, "4 broken": 2**31 - 1, "5 cold": -5_000}
    two = run(before, state(1, {"0": 900, "4": 2000}, {"0 skin": 34_000, **absent}))
    assert readings.fields([one, two]) == {
        "frequency_khz": {"0": {"min": 300, "max": 900}, "4": {"min": 2000, "max": 2000}},
        "temperature_c": {"0 skin": {"min": 31.5, "max": 34.0}, "5 cold": {"min": -5.0, "max": -5.0}},
    }
    assert readings.fields([run(before, state(1, None, None))]) == {}


def _at(*khz: int) -> journal.Journal:
    """A run whose processor 4 was seen at these clocks while it was timed; processor 0 is not its own."""
    looks = [
        {"kind": "state", "at_ns": at, "frequency_khz": {"4": one, "0": 1}, "temperature_mc": None,
         "resident_bytes": None, "peak_resident_bytes": None}
        for at, one in enumerate((5, *khz))
    ]  # fmt: skip
    return journal.parse(test_journal.written(test_journal.START | {"cpus": [4]}, test_journal.LOAD, *looks))


def test_a_clock_that_falls_is_a_doubt() -> None:
    assert readings.slowed([_at(2_400_000, 2_000_000), _at(2_300_000)]) is None
    assert readings.slowed([_at(2_400_000, 2_400_000), _at(2_300_000, 1_800_000)]) == (
        "the clock of processor 4 was between 1.80 and 2.40 GHz"
    )
    assert readings.slowed([]) is None


@pytest.mark.parametrize(("kind", "pin", "doubted"), [("sbc", "0", True), ("sbc", "all", False), ("phone", "0", False)])
def test_a_boards_row_says_that_its_clock_fell(
    runners: Callable[[str], Runner],
    given: Given,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: record.Kind,
    pin: str,
    doubted: bool,
) -> None:
    runners("onnxruntime")
    opened = open_session(tmp_path, settings=ONCE.model_copy(update={"pin": pin}))
    opened.facts = replace(opened.facts, kind=kind)
    monkeypatch.setattr(readings, "slowed", lambda runs: f"{len(runs)} runs slowed down")
    rows = rows_of(given, opened)
    assert ["1 runs slowed down" in row.valid.reasons for row in rows] == [doubted, doubted]
