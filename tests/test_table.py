"""From a latency table to a smaller model, by the command line."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.artifacts import error_of
from tests.command import mini_recipe, tprune
from tests.sparsity.small_models import config, model_of
from tprune import artifact, pipeline, settings
from tprune.benchmarks import filling, record, standings, table
from tprune.benchmarks.probes import Task
from tprune.benchmarks.record import Environment, Verdict
from tprune.json_file import read_json
from tprune.model import checkpoint
from tprune.model.transformer import TPruneForConditionalGeneration
from tprune.sparsity import lines


@pytest.fixture
def model(tmp_path: Path) -> Path:
    with artifact.create(tmp_path / "dense", "model", config={}) as partial:
        checkpoint.save(model_of(config(heads=2, width=16, ffn=32, depth=3)), partial)
    return tmp_path / "dense"


class PerWeight:
    """Stands in for the clock: a microsecond a weight."""

    def __init__(self, folder: Path, settings: Any, source_tokens: int) -> None:
        pass

    def __call__(self, tasks: Sequence[Task], tell: Callable[[str], None]) -> dict[str, list[float]]:
        return {task.name: [1e-3 * task.target_tokens * weights(task.config)] * 3 for task in tasks}

    def machine(self) -> tuple[Environment, Verdict]:
        return record.environment(), Verdict(ok=True)


def weights(shapes: Any) -> int:
    with torch.device("meta"):
        model = TPruneForConditionalGeneration(shapes)
    parts = [parameter for name, parameter in model.named_parameters() if "norm" not in name]
    counted = sum(part.numel() for part in parts if part.dim() > 1)
    return int(counted - shapes.max_positions * shapes.d_model)


def test_a_table_leads_to_the_speedup(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(filling, "LocalMeter", PerWeight)
    costs, small = tmp_path / "table", tmp_path / "small"
    assert tprune(monkeypatch, "table", costs, "--like", model, "--precision", "int8", "--set", "table.points=2") == 0
    assert capsys.readouterr().out == f"{costs}\n"
    made = table.read(artifact.read(costs, "latency-table").path)
    assert (made.engine, made.precision, made.threads) == ("onnxruntime", "int8", 1)
    assert tprune(monkeypatch, "prune", model, "--speedup", "2", "--device-table", costs, "--out", small) == 0
    before, after = checkpoint.load(model), checkpoint.load(small)
    assert weights(before.config) / weights(after.config) == pytest.approx(2, rel=0.1)
    how = read_json(tmp_path / "small.plan" / "plan.json")["how"]
    assert how["predicted_speedup"] >= 2
    assert how["predicted_ms"] == pytest.approx(table.predict(made, after.config))
    said = capsys.readouterr().err
    assert f"predicted {how['predicted_ms']:.2f} ms instead of {how['dense_ms']:.2f}" in said
    assert f"for onnxruntime int8, threads: 1, {standings.machine(made.environment)}\n" in said
    assert set(artifact.read(tmp_path / "small.plan").manifest["parents"]) == {"model", "table", "dense"}
    assert set(table.unit_costs(made, before.config)) == {
        group.name for group in lines.groups(before.config, lines.WIDTH_KINDS)
    }


def test_a_tables_file_is_as_good_as_its_directory(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filling, "LocalMeter", PerWeight)
    costs, plans = tmp_path / "table", []
    assert tprune(monkeypatch, "table", costs, "--like", model, "--set", "table.points=2") == 0
    copied = tmp_path / "known machine.json"
    copied.write_bytes((costs / "table.json").read_bytes())
    for name, given in (("one", costs), ("two", copied)):
        assert (
            tprune(monkeypatch, "prune", model, "--speedup", "2", "--device-table", given, "--out", tmp_path / name)
            == 0
        )
        plans.append(artifact.read(tmp_path / f"{name}.plan"))
    assert plans[0].manifest["parents"] == plans[1].manifest["parents"]
    how = [read_json(plan.path / "plan.json") for plan in plans]
    assert how[0]["keep"] == how[1]["keep"]
    committed = Path(filling.__file__).parent / "results" / "table" / "onnxruntime-fp32.json"
    assert table.open_table(committed).identity != plans[0].manifest["parents"]["table"]["identity"]
    copied.write_text("{}")
    assert error_of(table.open_table, copied) == (
        f"{copied}: not a latency table of this version · got schema_version None · wanted 1 · "
        "fill it again with `tprune table`"
    )


@pytest.mark.slow
def test_a_recipe_measures_its_table_in_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filling, "LocalMeter", PerWeight)
    wanted = '0.9\nplanner = "latency"\nbudget = "speedup"\namount = 1.3\ntable = "measure"'
    told: list[str] = []
    recipe = settings.load(
        mini_recipe(tmp_path, keep=wanted), ["table.least_width=4", "table.threads=2", "shs.table=measure"]
    )
    pipeline.run(recipe, tmp_path / "run", told.append)
    made = artifact.read(tmp_path / "run" / "table", "latency-table")
    plan = artifact.read(tmp_path / "run" / "plans" / "small", "plan")
    assert plan.manifest["parents"]["table"]["identity"] == made.identity
    assert read_json(plan.path / "plan.json")["how"]["predicted_speedup"] >= 1.3
    sparse = artifact.read(tmp_path / "run" / "shs", "model")
    assert sparse.manifest["parents"]["table"]["identity"] == made.identity
    assert len(set(read_json(sparse.path / "strengths.json").values())) > 1
    sides = read_json(made.path / "table.json")
    assert (sides["threads"], sides["source_tokens"] > 2, sides["target_tokens"] > 2) == (2, True, True)
    assert "## Where the time goes" in (tmp_path / "run" / "report" / "report.md").read_text(encoding="utf-8")
    told.clear()
    pipeline.run(recipe, tmp_path / "run", told.append)
    assert all("up to date" in line for line in told)
