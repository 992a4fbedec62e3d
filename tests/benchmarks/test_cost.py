"""The cost of pruning is the sum of what its stages' manifests say."""

import json
from pathlib import Path

import pytest

from tests.artifacts import error_of
from tprune import artifact
from tprune.benchmarks import cost


def stage(out: Path, seconds: float | None) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    with artifact.create(out, "model", config={}) as partial:
        (partial / "weights").write_text(out.name)
    manifest = json.loads((out / "manifest.json").read_text())
    manifest.pop("seconds")
    (out / "manifest.json").write_text(json.dumps(manifest | ({} if seconds is None else {"seconds": seconds})))


def test_a_targets_minutes_are_the_shared_stages_and_its_own(tmp_path: Path) -> None:
    stage(tmp_path / "dense", 6000)
    for name, seconds in (("analysis", 60), ("distilled", 600), ("corpus", 999)):
        stage(tmp_path / name, seconds)
    for name, factor in (("2x", 1), ("3x", 2)):
        stage(tmp_path / "trimmed" / name / "stream", 30 * factor)
        stage(tmp_path / "trimmed" / name / "model", 6 * factor)
        stage(tmp_path / "plans" / name, 12 * factor)
        stage(tmp_path / "recovered" / name, 1200 * factor)
    stage(tmp_path / "bundles" / "onnxruntime" / "fp32" / "3x", 99)
    found = cost.measure(tmp_path)
    assert found["dense_minutes"] == 100
    assert found["shared_minutes"] == {"analysis": 1, "distilled": 10}
    assert found["targets"]["2x"]["own_minutes"] == pytest.approx({"trimmed": 0.6, "plans": 0.2, "recovered": 20})
    assert found["targets"]["2x"]["minutes"] == pytest.approx(31.8)
    assert found["targets"]["3x"]["minutes"] == pytest.approx(52.6)
    assert found["targets"]["3x"]["share_of_dense"] == pytest.approx(0.526)


@pytest.mark.parametrize("missing", ["dense", "time", "recovered"])
def test_without_times_there_is_no_cost(tmp_path: Path, missing: str) -> None:
    if missing != "dense":
        stage(tmp_path / "dense", None if missing == "time" else 60)
    if missing != "recovered":
        stage(tmp_path / "recovered" / "2x", 60)
    assert "no finished run whose stages' times are known" in error_of(cost.measure, tmp_path)
