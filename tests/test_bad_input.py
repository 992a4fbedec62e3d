"""Bad input: one clear line, exit code 1, nothing half-written."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.benchmarks.rows import row
from tests.command import mini_recipe, tprune
from tprune import artifact
from tprune.benchmarks import record

PAIRS = [(f"The dog sees cat {n}.", f"Der Hund sieht Katze {n}.") for n in range(60)]


@pytest.fixture
def text(tmp_path: Path) -> Path:
    folder = tmp_path / "text"
    folder.mkdir()
    for split, part in (("train", PAIRS[:40]), ("valid", PAIRS[40:50]), ("test", PAIRS[50:])):
        for side, language in enumerate(("en", "de")):
            (folder / f"{split}.{language}").write_text("".join(pair[side] + "\n" for pair in part))
    return folder


@pytest.fixture
def refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> "Iterator[Refused]":
    yield Refused(tmp_path, monkeypatch, capsys)


class Refused:
    """Runs a command that has to fail cleanly; gives its one line."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self.monkeypatch, self.capsys = folder, monkeypatch, capsys

    def __call__(self, *arguments: object, out: Path | None = None) -> str:
        code = tprune(self.monkeypatch, *arguments)
        said = self.capsys.readouterr().err
        errors = [line for line in said.splitlines() if line.startswith("error: ")]
        assert code == 1, said
        assert len(errors) == 1, said
        assert "Traceback" not in said
        if out is not None:
            assert not out.exists()
            assert not out.with_name(out.name + ".partial").exists()
        return errors[0]


def files(text: Path) -> list[str]:
    return ["--set", "text.kind=files", "--set", f"text.folder={text}", "--set", "text.vocabulary=300"]


@pytest.mark.parametrize("flags", [(), ("--json",), ("--readme",), ("--page", "page"), ("--readme", "--into", "R.md")])
def test_a_report_of_nothing(flags: tuple[str, ...], refused: Refused, tmp_path: Path) -> None:
    if "--into" in flags:
        (tmp_path / "R.md").write_text("<!-- results -->\n<!-- /results -->\n")
    given = [tmp_path / flag if flag in ("page", "R.md") else flag for flag in flags]
    said = refused("report", tmp_path / "nowhere", *given, out=tmp_path / "page")
    assert "nowhere: no such f" in said
    (tmp_path / "empty").mkdir()
    assert "empty: no results in this folder" in refused("report", tmp_path / "empty", *given, out=tmp_path / "page")


def test_a_report_of_one_file_prints_its_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    record.write(tmp_path / "one.json", [row()])
    assert tprune(monkeypatch, "report", tmp_path / "one.json") == 0
    assert "| dense |" in capsys.readouterr().out


def test_a_page_where_a_file_lies(refused: Refused, tmp_path: Path) -> None:
    record.write(tmp_path / "one.json", [row()])
    (tmp_path / "page").write_text("mine")
    line = refused("report", tmp_path / "one.json", "--page", tmp_path / "page")
    assert line == (
        f"error: {tmp_path / 'page'}: nothing can be written here · got File exists · choose another directory"
    )
    assert (tmp_path / "page").read_text() == "mine"


def test_flags_that_say_nothing_by_themselves(copies: Path, refused: Refused, tmp_path: Path) -> None:
    line = refused("report", tmp_path, "--into", tmp_path / "README.md", out=tmp_path / "README.md")
    assert line == "error: --into: nothing to write into a file · give --readme too, or leave it out"
    models = (copies / "dense", copies / "dense", "--corpus", copies / "corpus")
    line = refused("bench", *models, "--out", tmp_path / "rows", "--sustained", "5", out=tmp_path / "rows")
    assert line == (
        "error: --sustained: models run for minutes on devices only · give --device too, --device local for this "
        "machine, or leave it out"
    )


def test_unequal_line_counts(text: Path, refused: Refused, tmp_path: Path) -> None:
    with (text / "train.de").open("a") as file:
        file.write("Zu viel.\n")
    line = refused("corpus", "--out", tmp_path / "c", *files(text), out=tmp_path / "c")
    assert "train" in line
    assert "40" in line
    assert "41" in line


def test_bad_utf8(text: Path, refused: Refused, tmp_path: Path) -> None:
    (text / "valid.de").write_bytes((text / "valid.de").read_bytes().replace(b"Hund", b"H\xffnd", 1))
    line = refused("corpus", "--out", tmp_path / "c", *files(text), out=tmp_path / "c")
    assert "valid.de" in line
    assert "UTF-8" in line


def test_empty_file(text: Path, refused: Refused, tmp_path: Path) -> None:
    (text / "test.en").write_text("")
    line = refused("corpus", "--out", tmp_path / "c", *files(text), out=tmp_path / "c")
    assert "test.en" in line
    assert "empty" in line


def test_a_directory_instead_of_a_file(text: Path, refused: Refused, tmp_path: Path) -> None:
    (text / "test.en").unlink()
    (text / "test.en").mkdir()
    line = refused("corpus", "--out", tmp_path / "c", *files(text), out=tmp_path / "c")
    assert "test.en" in line
    assert "directory" in line


def test_several_problems_are_told_at_once(text: Path, refused: Refused, tmp_path: Path) -> None:
    (text / "test.en").write_text("")
    with (text / "train.de").open("a") as file:
        file.write("Zu viel.\n")
    line = refused("corpus", "--out", tmp_path / "c", *files(text), out=tmp_path / "c")
    assert "test.en" in line
    assert "41" in line


def test_unknown_recipe_key(refused: Refused, tmp_path: Path) -> None:
    line = refused("run", mini_recipe(tmp_path), "--set", "learn.stepps=5", "--out", tmp_path / "r", out=tmp_path / "r")
    assert "unknown key learn.stepps" in line


def test_unknown_recipe(refused: Refused, tmp_path: Path) -> None:
    line = refused("run", "quikstart", "--out", tmp_path / "r", out=tmp_path / "r")
    assert "quickstart" in line


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One corpus and two untrained models; each test damages a copy."""
    from tprune import settings, stages

    folder = tmp_path_factory.mktemp("made")
    recipe = settings.load(mini_recipe(folder, steps="2", checkpoint_every="2", sentences="150"))
    corpus = stages.corpus(folder / "corpus", recipe.text).make(False)
    stages.train(folder / "dense", corpus, recipe.model, recipe.learn, None).make(False)
    wider = recipe.model.model_copy(update={"ffn": 64})
    stages.train(folder / "other", corpus, wider, recipe.learn, None).make(False)
    return folder


@pytest.fixture
def copies(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made, tmp_path / "made")
    return tmp_path / "made"


def test_corrupt_manifest(copies: Path, refused: Refused, tmp_path: Path) -> None:
    manifest = copies / "dense" / "manifest.json"
    manifest.write_text(manifest.read_text()[:200])
    line = refused("prune", copies / "dense", "--flops", "0.95", "--out", tmp_path / "small", out=tmp_path / "small")
    assert "not valid JSON" in line
    assert "manifest.json" in line


def test_truncated_weights(copies: Path, refused: Refused, tmp_path: Path) -> None:
    weights = copies / "dense" / "model.safetensors"
    os.truncate(weights, weights.stat().st_size // 2)
    line = refused("prune", copies / "dense", "--flops", "0.95", "--out", tmp_path / "small", out=tmp_path / "small")
    assert "model.safetensors" in line
    assert "delete the directory and make it again" in line


def test_a_plan_for_another_model(
    copies: Path, refused: Refused, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert tprune(monkeypatch, "prune", copies / "other", "--flops", "0.95", "--out", tmp_path / "a") == 0
    line = refused(
        "prune",
        copies / "dense",
        "--plan",
        tmp_path / "a.plan",
        "--out",
        tmp_path / "small",
        out=tmp_path / "small",
    )
    assert "made for another model" in line


def test_a_budget_that_cannot_be_met(copies: Path, refused: Refused, tmp_path: Path) -> None:
    line = refused("prune", copies / "dense", "--flops", "0.01", "--out", tmp_path / "small", out=tmp_path / "small")
    assert "wanted at least 0." in line


def test_no_budget(copies: Path, refused: Refused, tmp_path: Path) -> None:
    line = refused("prune", copies / "dense", "--out", tmp_path / "small", out=tmp_path / "small")
    assert "--parameters, --flops, --threshold, --speedup or --milliseconds" in line


def test_compensation_without_a_corpus(copies: Path, refused: Refused, tmp_path: Path) -> None:
    out = tmp_path / "small"
    line = refused("prune", copies / "dense", "--flops", "0.95", "--compensate", "--out", out, out=out)
    assert line == (
        "error: compensation needs calibration text · got --compensate without a corpus · "
        "give --corpus, or leave --compensate out"
    )


def test_a_corpus_compensates_unless_told_otherwise(
    copies: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    weights = {}
    for name, options in (("plain", ["--no-compensate"]), ("fitted", []), ("asked", ["--compensate"])):
        out = tmp_path / name
        given = ["--flops", "0.95", "--grid", "1", "--corpus", copies / "corpus", "--out", out, *options]
        assert tprune(monkeypatch, "prune", copies / "dense", *given) == 0
        weights[name] = (out / "model.safetensors").read_bytes()
        assert artifact.read(out).manifest["config"] == ({} if name == "plain" else {"seed": 1})
    assert weights["fitted"] == weights["asked"]
    assert len(weights["fitted"]) == len(weights["plain"])
    assert weights["fitted"] != weights["plain"]


def test_norms_of_a_penalty_that_was_not_trained_with(refused: Refused, tmp_path: Path) -> None:
    recipe = mini_recipe(tmp_path, keep='0.9\nscore = "group_lasso"')
    line = refused("run", recipe, "--out", tmp_path / "run", out=tmp_path / "run")
    assert line == (
        "error: no model is trained for this score · target small, score group_lasso: shs.penalty.kind is shs · "
        "set shs.penalty.kind, or the target's score"
    )


def test_a_benchmark_of_nothing(refused: Refused, tmp_path: Path) -> None:
    choices = ["--set", 'export.engines=["onnxruntime"]', "--set", 'bench.engines=["executorch"]']
    line = refused("run", mini_recipe(tmp_path), "--out", tmp_path / "run", *choices, out=tmp_path / "run" / "dense")
    assert line == (
        "error: bench.engines: nothing to benchmark · got executorch · wanted pytorch | onnxruntime, for which export "
        "makes bundles · set bench.engines, or export.engines and export.precisions"
    )


def test_another_kind_of_artifact(copies: Path, refused: Refused, tmp_path: Path) -> None:
    line = refused("prune", copies / "corpus", "--flops", "0.9", "--out", tmp_path / "small", out=tmp_path / "small")
    assert "got corpus" in line
    assert "wanted model" in line


def test_nothing_is_overwritten_without_force(copies: Path, refused: Refused, tmp_path: Path) -> None:
    before = json.loads((copies / "dense" / "manifest.json").read_text())
    line = refused("train", copies / "corpus", "--out", copies / "dense", "--set", "learn.steps=1")
    assert "--force" in line
    assert json.loads((copies / "dense" / "manifest.json").read_text()) == before


def test_a_full_disk(copies: Path, refused: Refused, tmp_path: Path) -> None:
    small = tmp_path / "disk"
    small.mkdir()
    mounted = (
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=40k", "tmpfs", small], check=False, capture_output=True
        ).returncode
        == 0
    )
    if not mounted:
        pytest.skip("skipped, needs the right to mount a tmpfs")
    try:
        out = small / "run" / "small"
        line = refused("prune", copies / "dense", "--flops", "0.95", "--out", out, out=out)
        assert "no space left on the disk" in line
    finally:
        subprocess.run(["umount", small], check=True)


def test_a_speedup_without_a_table(copies: Path, refused: Refused, tmp_path: Path) -> None:
    small = tmp_path / "small"
    assert refused("prune", copies / "dense", "--speedup", "2", "--out", small, out=small) == (
        "error: a time is counted with a table, and nothing else is · got --speedup without --device-table · "
        "fill a table with `tprune table` and give it"
    )
    line = refused("prune", copies / "dense", "--flops", "0.9", "--device-table", copies, "--out", small, out=small)
    assert line.endswith("got --flops with --device-table · leave --device-table out")
