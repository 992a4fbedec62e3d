"""A small suite from end to end, killed in the middle."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.artifacts import error_of
from tests.benchmarks.small_suite import SMALL, write
from tests.command import tprune
from tests.test_table import PerWeight
from tprune import ablation, artifact
from tprune.benchmarks import filling, record, suite
from tprune.benchmarks.record import Row
from tprune.errors import InputError
from tprune.model import checkpoint
from tprune.sparsity import plan

LABELS = {
    "small.magnitude.1", "small.random.1", "small.random.2", "small.shs-in-rounds.1", "small.scratch.1",
    "small.dense-distilled.1", "small.own.1", "small.trimmed.1", "small.obs-of-shs.1",
}  # fmt: skip


class PowerError(Exception):
    """The power goes off."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A run that was killed after three rows' training, and the lines that the second call told."""
    folder = tmp_path_factory.mktemp("suite")
    given = suite.load(write(folder))
    told: list[str] = []

    def off(line: str) -> None:
        told.append(line)
        if line.startswith("recover") and sum(each.startswith("recover") for each in told) == 3:
            raise PowerError

    again: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(filling, "LocalMeter", PerWeight)
        with pytest.raises(PowerError):
            ablation.run(given, folder / "out", off)
        ablation.run(given, folder / "out", again.append)
    return folder / "out", again


def test_some_rows_only(made: tuple[Path, list[str]], tmp_path: Path) -> None:
    out, told = tmp_path / "out", list[str]()
    shutil.copytree(made[0], out, symlinks=True)
    given = suite.load(made[0].parent / "suite.toml")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(filling, "LocalMeter", PerWeight)
        ablation.run(given, out, told.append, only=["small.random.*", "*.magnitude.1"])
    assert {key for key, row in rows(out).items() if not row.dense} == {("magnitude", 1), ("random", 1), ("random", 2)}
    assert all("up to date" in line for line in told)
    error = error_of(lambda: ablation.run(given, tmp_path / "none", told.append, only=["random", "small.*"]))
    assert error.startswith("no row is called so · got random · wanted small.magnitude.1 | ")
    assert not (tmp_path / "none").exists()


def test_models_now_and_times_later(made: tuple[Path, list[str]], tmp_path: Path) -> None:
    out, told = tmp_path / "out", list[str]()
    shutil.copytree(made[0], out, symlinks=True)
    given = suite.load(made[0].parent / "suite.toml")
    row = out / "rows" / "small.magnitude.1"
    before = record.read(out / ablation.RESULTS)
    for name in ("recovered", "results"):
        shutil.rmtree(row / name)
    assert ablation.run(given, out, told.append, only=["*.magnitude.1"], measured=False) == out / "rows"
    assert (row / "recovered" / artifact.MANIFEST).exists()
    assert not (row / "results").exists()
    assert record.read(out / ablation.RESULTS) == before
    ablation.run(given, out, told.append, only=["*.magnitude.1"])
    assert ("magnitude", 1) in rows(out)


def rows(out: Path) -> dict[tuple[str | None, int | None], Row]:
    return {(row.criterion, row.seed): row for row in record.read(out / ablation.RESULTS) if row.decode == "greedy"}


def test_every_row_is_measured_and_says_what_it_is(made: tuple[Path, list[str]]) -> None:
    found = rows(made[0])
    dense = [row for row in found.values() if row.dense]
    assert len(dense) == 1
    assert {f"{row.shape}.{row.criterion}.{row.seed}" for row in found.values() if not row.dense} == LABELS
    for row in found.values():
        assert row.latency_ms is not None
        assert row.latency_ms.samples
        assert row.bleu is not None
        if not row.dense:
            assert row.model == f"{row.shape}.{row.criterion}"
            assert row.speedup is not None
            said: Any = row.model_extra
            assert said["valid_bleu"] >= 0 and said["valid_loss"] > 0
            assert row.pruned == (row.criterion != "dense-distilled")


def test_the_same_shape_for_all_but_those_with_their_own(made: tuple[Path, list[str]]) -> None:
    out = made[0]
    models = {label: checkpoint.load(out / "rows" / label / "recovered").config for label in LABELS}
    wanted = plan.pruned_shapes(checkpoint.load(out / "shared" / "dense").config, plan.read(out / "shapes" / "small"))
    for label, config in models.items():
        shapes = {"encoder": config.encoder_shapes, "decoder": config.decoder_shapes}
        assert (shapes == wanted) == (label not in {"small.own.1", "small.dense-distilled.1", "small.trimmed.1"}), label
    plans = {seed: plan.read(out / "rows" / f"small.random.{seed}" / "plans" / "small.random") for seed in (1, 2)}
    assert plans[1].keep != plans[2].keep


def test_own_widths_take_the_predicted_time_of_the_shape(made: tuple[Path, list[str]]) -> None:
    how = plan.read(made[0] / "rows" / "small.own.1" / "plans" / "small.own").how
    assert how["template"] == "small"
    assert 0.9 * how["template_ms"] < how["predicted_ms"] <= how["template_ms"]
    assert (made[0] / "shared" / "table" / artifact.MANIFEST).exists()


def test_a_row_with_its_own_widths_may_have_its_own_tokens(made: tuple[Path, list[str]]) -> None:
    folder = made[0] / "rows" / "small.trimmed.1"
    dense, small = (checkpoint.load(path).config for path in (made[0] / "shared" / "dense", folder / "recovered"))
    assert small.output_size < dense.output_size
    lessons = artifact.read(folder / "trimmed" / "lessons")
    taught = artifact.read(folder / "recovered").manifest["parents"]
    assert taught["corpus"]["identity"] == lessons.identity
    assert taught["teacher"]["identity"] == artifact.read(folder / "trimmed" / "dense").identity
    how = plan.read(folder / "plans" / "small.trimmed").how
    assert how["dense_ms"] > how["predicted_ms"] * 1.2  # of the model with all tokens


def test_new_weights_have_nothing_of_the_old_ones(made: tuple[Path, list[str]]) -> None:
    folder = made[0] / "rows" / "small.scratch.1"
    old, new = (checkpoint.load(folder / name) for name in ("pruned/small.scratch", "fresh"))
    assert old.config.decoder_shapes == new.config.decoder_shapes
    assert not (old.get_parameter("embed.weight") == new.get_parameter("embed.weight")).any()


def test_what_rows_share_is_made_once(made: tuple[Path, list[str]]) -> None:
    shared = made[0] / "shared"
    assert len([path for path in shared.glob("distilled-*") if path.is_dir()]) == 1
    sparse = [path for path in shared.glob("shs-*") if (path / artifact.MANIFEST).exists()]
    assert len(sparse) == 1  # all SHS rows have seed 1
    read = {
        label: artifact.read(made[0] / "rows" / label / "pruned" / label[:-2]).manifest["parents"]["model"]["identity"]
        for label in ("small.obs-of-shs.1", "small.magnitude.1")
    }
    assert read["small.obs-of-shs.1"] == artifact.read(sparse[0]).identity
    assert read["small.magnitude.1"] == artifact.read(shared / "dense").identity


def test_a_killed_suite_goes_on_and_a_finished_one_makes_nothing(made: tuple[Path, list[str]]) -> None:
    out, again = made
    assert any("up to date" in line and "/shared/dense)" in line for line in again)
    assert any("up to date" in line and "small.magnitude.1/recovered)" in line for line in again)
    told: list[str] = []
    before = (out / ablation.RESULTS).read_bytes()
    ablation.run(suite.load(write(out.parent)), out, told.append)
    assert [line for line in told if "up to date" not in line] == []
    assert (out / ablation.RESULTS).read_bytes() == before


def test_the_curves_are_drawn_and_the_ranking_printed(
    made: tuple[Path, list[str]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    pictures = [path.name for path in (made[0] / "report").glob("ablation-*.png")]
    assert len(pictures) == 1  # greedy search; nobody timed the beam
    assert tprune(monkeypatch, "report", made[0]) == 0
    printed = capsys.readouterr().out
    assert "| shs-in-rounds | 1 |" in printed
    assert "| random | 2 |" in printed
    assert tprune(monkeypatch, "report", made[0], "--page", tmp_path / "page") == 0
    assert (tmp_path / "page" / "index.html").is_file()


def test_a_failing_row_does_not_hinder_the_others(tmp_path: Path, made: tuple[Path, list[str]]) -> None:
    text = SMALL.replace('target = {{ score = "random" }}', 'widths = "own"\ntarget = {{ drop_decoder_layers = 2 }}')
    told: list[str] = []
    out = tmp_path / "out"
    shutil.copytree(made[0], out)
    given = suite.load(write(made[0].parent, text))
    with pytest.raises(
        InputError, match=r"rows of the suite failed · small.random.1: .*no decoder layer would be left"
    ):
        ablation.run(given, out, told.append)
    assert {row.criterion for row in record.read(out / ablation.RESULTS)} == {
        None, "magnitude", "shs-in-rounds", "scratch", "dense-distilled", "own", "trimmed", "obs-of-shs"}  # fmt: skip


def test_a_base_run_is_taken_as_it_is(made: tuple[Path, list[str]], tmp_path: Path) -> None:
    head = SMALL.partition("[[rows]]")[0].replace("seeds = [1, 2]", "seeds = [1]")
    text = head + '[[rows]]\nname = "magnitude"\n'
    ablation.run(suite.load(write(tmp_path, text)), tmp_path / "out", lambda _: None, made[0] / "shared")
    assert not (tmp_path / "out" / "shared" / "dense").exists()
    identities = [
        artifact.read(out / "rows/small.magnitude.1/recovered").identity for out in (made[0], tmp_path / "out")
    ]
    assert identities[0] == identities[1]


def test_an_analysis_of_another_dense_model(made: tuple[Path, list[str]], tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(made[0] / "shared", run, symlinks=True)
    shutil.rmtree(run / "dense")
    shutil.copytree(made[0] / "rows" / "small.magnitude.1" / "recovered", run / "dense")
    given = suite.load(made[0].parent / "suite.toml")
    assert f"{run / 'analysis'}: the analysis is not of this run · got another model than {run / 'dense'}" in error_of(
        ablation.run, given, tmp_path / "out", lambda _: None, run
    )
