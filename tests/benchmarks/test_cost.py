"""The cost of pruning is the sum of what the stages on the way took, by their manifests."""

import json
from pathlib import Path

import pytest

from tests.artifacts import error_of
from tprune import artifact
from tprune.artifact import Artifact
from tprune.benchmarks import cost


def stage(out: Path, seconds: float | None, *parents: Artifact) -> Artifact:
    out.parent.mkdir(parents=True, exist_ok=True)
    given = {str(number): parent for number, parent in enumerate(parents)}
    with artifact.create(out, "model", config={}, parents=given) as partial:
        (partial / "weights").write_text(str(out))
    manifest = json.loads((out / "manifest.json").read_text())
    manifest.pop("seconds")
    (out / "manifest.json").write_text(json.dumps(manifest | ({} if seconds is None else {"seconds": seconds})))
    return artifact.read(out)


def a_run(run: Path, without: str = "") -> None:
    def made(name: str, seconds: float, *parents: Artifact) -> Artifact:
        return stage(run / name, None if name == without else seconds, *parents)

    corpus = made("corpus", 999)
    dense = made("dense", 6000, corpus)
    analysis = made("analysis", 60, dense, corpus)
    lessons = made("distilled", 600, dense, corpus)
    made("shs", 1200, dense, analysis, corpus)  # of an earlier recipe: no target's
    for name, factor in (("2x", 1), ("3x", 2)):
        stream = made(f"trimmed/{name}/stream", 30 * factor, dense, corpus)
        trimmed = made(f"trimmed/{name}/model", 6 * factor, stream)
        plan = made(f"plans/{name}", 12 * factor, trimmed, analysis, corpus)
        pruned = made(f"pruned/{name}", 3 * factor, trimmed, plan)
        recovered = made(f"recovered/{name}", 1200 * factor, pruned, dense, lessons)
        made(f"bundles/onnxruntime/fp32/{name}", 99, recovered)


def test_a_targets_minutes_are_those_of_all_that_it_was_made_from(tmp_path: Path) -> None:
    a_run(tmp_path)
    stage(tmp_path / "recovered" / "4x.partial", 60)
    found = cost.measure(tmp_path)
    assert found["dense_minutes"] == 100
    assert found["targets"].keys() == {"2x", "3x"}
    assert found["targets"]["2x"]["stages"] == pytest.approx(
        {
            "analysis": 1, "distilled": 10, "trimmed/2x/stream": 0.5, "trimmed/2x/model": 0.1, "plans/2x": 0.2,
            "pruned/2x": 0.05, "recovered/2x": 20,
        }
    )  # fmt: skip
    assert found["targets"]["2x"]["minutes"] == pytest.approx(31.85)
    assert found["targets"]["3x"]["minutes"] == pytest.approx(52.7)
    assert found["targets"]["3x"]["share_of_dense"] == pytest.approx(0.527)


@pytest.mark.parametrize("without", ["dense", "distilled", "trimmed/2x/stream", "recovered/3x"])
def test_a_time_that_nobody_knows_is_not_zero(tmp_path: Path, without: str) -> None:
    a_run(tmp_path, without)
    said = error_of(cost.measure, tmp_path)
    assert "nobody knows how long this took" in said
    assert str(tmp_path / without) in said


def test_a_time_that_matters_to_nobody_may_be_unknown(tmp_path: Path) -> None:
    a_run(tmp_path, "shs")
    assert cost.measure(tmp_path)["targets"]["2x"]["minutes"] == pytest.approx(31.85)


@pytest.mark.parametrize("missing", ["dense", "recovered"])
def test_a_run_that_is_not_finished(tmp_path: Path, missing: str) -> None:
    stage(tmp_path / ("recovered/2x" if missing == "dense" else "dense"), 60)
    assert "no finished run" in error_of(cost.measure, tmp_path)
