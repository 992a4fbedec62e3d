"""The verbs of single stages: what a second call does, and whose words an error has."""

import re
import shutil
from pathlib import Path

import pytest

from tests.artifacts import error_of, snapshot
from tests.command import mini_recipe, tprune
from tprune import artifact, pipeline, rounds, settings
from tprune.errors import BudgetError
from tprune.json_file import read_json, write_json
from tprune.model import checkpoint
from tprune.sparsity import cost, surgery
from tprune.stage import Stage


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("verbs")
    pipeline.run(settings.load(mini_recipe(folder), ["learn.steps=2"]), folder, lambda _: None, "dense")
    return folder


def flags(run: Path, out: Path, flops: float) -> tuple[object, ...]:
    return ("prune", run / "dense", "--flops", flops, "--grid", 4, "--vocabulary", 1, "--hidden", 0.75,
            "--corpus", run / "corpus", "--out", out)  # fmt: skip


def stamps(*folders: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for folder in folders for path in folder.rglob("manifest.json")}


def test_a_budget_that_cannot_be_met_is_said_as_it_was_given_and_the_next_call_goes_on(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out, trimmed = tmp_path / "small", tmp_path / "small.trimmed"
    assert tprune(monkeypatch, *flags(run, out, 0.05)) == 1
    said = " ".join(capsys.readouterr().err.split())
    found = re.search(
        r"error: target small: the budget cannot be met · got --flops 0.05, a share of the dense model's · wanted "
        r"at least (0\.\d{3}) · raise --flops, lower --grid, or drop layers \(--drop-encoder-layers, --drop-decoder-",
        said,
    )
    assert found, said
    least, before = float(found[1]), stamps(trimmed)
    assert tprune(monkeypatch, *flags(run, out, least - 0.002)) == 1
    assert tprune(monkeypatch, *flags(run, out, least)) == 0
    assert stamps(trimmed) == before
    dense, small = (cost.total(checkpoint.load(path).config, "flops") for path in (run / "dense", out))
    assert least - 0.001 <= small / dense <= least


def test_pruning_goes_on_after_an_interruption_and_needs_force_for_its_result_only(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    out, beside = tmp_path / "small", (tmp_path / "small.trimmed", tmp_path / "small.plan")
    with monkeypatch.context() as patch:
        patch.setattr(surgery, "prune", interrupted)
        assert tprune(patch, *flags(run, out, 0.5)) != 0
    assert not out.exists()
    assert tprune(monkeypatch, *flags(run, out, 0.5)) == 0
    before, payload = stamps(*beside), snapshot(out)
    assert tprune(monkeypatch, *flags(run, out, 0.4)) == 1
    assert "exists already" in capsys.readouterr().err
    assert (stamps(*beside), snapshot(out)) == (before, payload)
    assert tprune(monkeypatch, *flags(run, out, 0.4), "--force") == 0
    changed = {path.parent for path, stamp in stamps(*beside).items() if stamp != before[path]}
    assert changed == {beside[1]}
    assert artifact.read(out).manifest["parents"]["plan"]["identity"] == artifact.read(beside[1]).identity


def test_a_plan_says_all_that_is_cut(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given = (
        "prune",
        run / "dense",
        "--plan",
        tmp_path,
        "--out",
        tmp_path / "out",
        "--flops",
        "0.5",
        "--vocabulary",
        "1",
    )
    assert tprune(monkeypatch, *given) == 1
    assert (
        "a plan says all that is cut · got --plan and --flops, --vocabulary · leave one out" in capsys.readouterr().err
    )


@pytest.mark.parametrize(("layers", "wanted"), [(0, 0.6), (1, 0.36)])
def test_a_recipes_budget_is_said_in_its_words_in_every_round(run: Path, layers: int, wanted: float) -> None:
    whole = cost.total(checkpoint.load(run / "dense").config, "flops")
    dense, text = artifact.read(run / "dense"), artifact.read(run / "corpus")
    target = settings.target(name="t", keep=0.25, rounds=2, score="magnitude", drop_decoder_layers=layers)

    def fails(stage: Stage) -> artifact.Artifact:
        raise BudgetError("the budget cannot be met", least=round(0.5999 * whole))

    given = rounds.Inputs(dense, None, text, text, text)
    config = settings.defaults()
    assert error_of(rounds.cut, config, target, given, run / "cut", fails, seed=1) == (
        "target t, round 1: the budget cannot be met · got keep = 0.25 of the dense model's flops · wanted at least "
        f"{wanted:.3f} · raise keep, lower grid, or drop layers (drop_encoder_layers, drop_decoder_layers)"
    )


def test_norms_of_a_model_without_the_penalty_are_told(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ("--flops", 0.9, "--grid", 4, "--score", "shs")
    assert tprune(monkeypatch, "prune", run / "dense", *given, "--out", tmp_path / "one") == 0
    note = f"{run / 'dense'}: `tprune sparsify` has not trained it with shs: the score says little more than magnitude"
    assert note in capsys.readouterr().err.splitlines()
    trained = shutil.copytree(run / "dense", tmp_path / "trained") / "manifest.json"
    write_json(trained, read_json(trained) | {"config": {"penalty": {"kind": "shs"}}})
    assert tprune(monkeypatch, "prune", trained.parent, *given, "--out", tmp_path / "two") == 0
    assert "sparsify" not in capsys.readouterr().err


def test_a_share_has_its_own_planners(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for planner in ("threshold", "latency"):
        assert tprune(monkeypatch, *flags(run, tmp_path / "small", 0.5), "--planner", planner) == 1
        said = " ".join(capsys.readouterr().err.split())
        assert f"no such planner here · got {planner} · wanted global | uniform · use one of these" in said
    assert not list(tmp_path.iterdir())
