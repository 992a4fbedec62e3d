"""The result contract: what is read, refused and kept."""

import json
import platform
import statistics
from pathlib import Path
from typing import Any, get_args

import pytest

from tests.benchmarks.rows import entry, row
from tprune.benchmarks import figures, pictures, record, standings
from tprune.errors import ArtifactError, TpruneError

CONTRACT = {
    "schema",
    "experiment",
    "dataset",
    "split",
    "model",
    "seed",
    "engine",
    "engine_version",
    "precision",
    "threads",
    "decode",
    "environment",
    "model_hash",
    "bundle_hash",
    "parameters",
    "size_bytes",
    "latency_ms",
    "baseline",
    "speedup",
    "bleu",
    "bleu_signature",
    "chrf",
    "bleu_loss_percent",
    "bleu_loss_upper_percent",
    "made_by",
    "valid",
}


def store(path: Path, *entries: object) -> Path:
    path.write_text(json.dumps(list(entries)), encoding="utf-8")
    return path


def test_round_trip_keeps_every_name_and_further_fields(tmp_path: Path) -> None:
    rows = [row(model_hash="abc", environment={"kind": "phone", "cpu": "Cortex-X3", "governor": "performance"})]
    record.write(tmp_path / "rows.json", rows)
    assert record.read(tmp_path / "rows.json") == rows
    written = json.loads((tmp_path / "rows.json").read_text())[0]
    assert written.keys() >= CONTRACT
    assert written["model_hash"] == "abc"
    assert written["environment"]["governor"] == "performance"
    assert [path.name for path in tmp_path.iterdir()] == ["rows.json"]


def test_what_was_not_measured_is_null(tmp_path: Path) -> None:
    nothing = dict.fromkeys(
        (
            "seed",
            "engine_version",
            "threads",
            "parameters",
            "size_bytes",
            "latency_ms",
            "baseline",
            "speedup",
            "bleu",
            "bleu_signature",
            "chrf",
            "bleu_loss_percent",
            "bleu_loss_upper_percent",
        )
    )
    record.write(tmp_path / "rows.json", [row(**nothing)])
    written = json.loads((tmp_path / "rows.json").read_text())[0]
    assert {name: written[name] for name in nothing} == nothing


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"speedup": 0}, "row 1: speedup: Input should be greater than 0"),
        ({"parameters": 0}, "row 1: parameters: Input should be greater than 0"),
        (
            {"size_bytes": None, "latency_ms": {"p50": 20, "p90": 28, "samples": []}},
            "row 1: latency_ms.samples: Tuple should have at least 1 item",
        ),
        (
            {"latency_ms": {"p50": 10.0, "p90": 28.0, "samples": [10.0, 20.0, 30.0]}},
            "row 1: latency_ms: p50 10 and p90 28 are not the samples' 20 and 28",
        ),
        ({"baseline": None}, "row 1: speedup without baseline"),
        ({"bleu_signature": None}, "row 1: bleu without bleu_signature"),
        ({"decode": "beam 5"}, "row 1: decode: String should match pattern"),
        (
            {"environment": {"kind": "laptop", "cpu": "x"}},
            "row 1: environment.kind: Input should be 'phone', 'sbc', 'host-x86', 'host-arm64' or 'emulated-arm64'",
        ),
        ({"valid": {"ok": False, "reasons": []}}, "row 1: valid: ok has to be false exactly when there are reasons"),
        (
            {"valid": {"ok": True, "reasons": ["hot"]}},
            "row 1: valid: ok has to be false exactly when there are reasons",
        ),
    ],
)
def test_rows_that_break_the_contract_are_refused(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ArtifactError) as caught:
        record.read(store(tmp_path / "rows.json", entry(**changes)))
    assert said in str(caught.value)
    assert "rows break the result contract" in str(caught.value)


def test_all_problems_come_in_one_error(tmp_path: Path) -> None:
    path = store(tmp_path / "rows.json", entry(threads=0), entry(), entry(engine="", model=None))
    with pytest.raises(ArtifactError) as caught:
        record.read(path)
    assert [problem.split(":")[:2] for problem in caught.value.problems] == [
        ["row 1", " threads"],
        ["row 3", " model"],
        ["row 3", " engine"],
    ]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('{"rows": []}', "not a result file · got dict · wanted a list of rows"),
        ("[{", "not valid JSON"),
        (json.dumps([entry(), entry(schema=2)]), "rows of an unknown schema · got 2 · wanted 1"),
        ("[{}]", "rows of an unknown schema · got None · wanted 1"),
    ],
)
def test_foreign_files_are_refused(tmp_path: Path, content: str, said: str) -> None:
    (tmp_path / "rows.json").write_text(content)
    with pytest.raises(ArtifactError) as caught:
        record.read(tmp_path / "rows.json")
    assert said in str(caught.value)


def test_read_all_takes_folders_and_files_and_skips_manifests(tmp_path: Path) -> None:
    folder = tmp_path / "results"
    folder.mkdir()
    store(folder / "b.json", entry(experiment="b"))
    store(folder / "a.json", entry(experiment="a1"), entry(experiment="a2"))
    (folder / "manifest.json").write_text("{}")
    single = store(tmp_path / "single.json", entry(experiment="single"))
    assert [row.experiment for row in record.read_all([folder, single])] == ["a1", "a2", "b", "single"]
    assert [row.experiment for row in record.read_all(folder)] == ["a1", "a2", "b"]


def test_read_all_refuses_an_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(TpruneError, match="no results in this folder"):
        record.read_all(tmp_path)


def test_environment_names_this_machine() -> None:
    found = record.environment()
    assert found.cpu not in ("", "unknown")
    assert found.kind == "host-x86" if platform.machine() == "x86_64" else found.kind in ("sbc", "host-arm64")
    assert found.model_dump()["libraries"]["numpy"]


def test_every_kind_of_machine_has_a_name_and_a_mark() -> None:
    kinds = set(get_args(record.Kind))
    assert kinds == standings.KINDS.keys()
    timed = kinds - {standings.EMULATED}
    for marks in (figures.SYMBOLS, pictures.MARKERS):
        assert marks.keys() == timed and len({*marks.values()}) == len(timed)


def test_cpu_name_of_x86_and_arm(tmp_path: Path) -> None:
    x86 = tmp_path / "x86"
    x86.write_text("processor\t: 0\nmodel\t\t: 106\nmodel name\t: Some CPU @ 2.8GHz \nflags: avx2\n")
    arm = tmp_path / "arm"
    arm.write_text("processor\t: 0\nCPU part\t: 0xd08\n\nRevision\t: c03115\nModel\t\t: Raspberry Pi 4 Model B\n")
    assert record._cpu_name(x86) == "Some CPU @ 2.8GHz"
    assert record._cpu_name(arm) == "Raspberry Pi 4 Model B"
    assert record._cpu_name(tmp_path / "none")


def test_percentiles_are_held_to_the_samples() -> None:
    samples = [3.0, 1.0, 2.0, 10.0]
    latency = {"p50": statistics.median(samples), "p90": 3 + 0.7 * 7, "samples": samples}
    kept = row(latency_ms=latency).latency_ms
    assert kept is not None and kept.samples == (3.0, 1.0, 2.0, 10.0)
