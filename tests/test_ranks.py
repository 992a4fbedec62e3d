"""Two processes train one model: one artifact, no matter who is faster."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.artifacts import error_of
from tests.command import mini_recipe
from tprune import artifact, pipeline, settings, stages
from tprune.json_file import read_json


def test_torchrun_trains_through_the_command_line(tmp_path: Path) -> None:
    recipe = mini_recipe(tmp_path)
    stages.corpus(tmp_path / "corpus", settings.load(recipe).text).make(False)
    launched = subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"),
            *("-m", "tprune.cli", "train", tmp_path / "corpus", "--out", tmp_path / "dense", "--recipe", recipe),
        ],
        check=False,
        timeout=240,
        capture_output=True,
        text=True,
    )
    assert launched.returncode == 0, launched.stderr[-3000:]
    made = artifact.read(tmp_path / "dense", "model")
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= set(made.manifest["files"])
    assert [entry["step"] for entry in read_json(made.path / "history.json") if "eval_loss" in entry] == [*(4, 8, 12)]
    assert not (tmp_path / "dense.partial").exists()
    told: list[str] = []
    pipeline.run(settings.load(recipe), tmp_path, told.append, "dense")
    assert [line.partition(" (")[0] for line in told] == ["corpus: up to date", "dense: up to date"]


@pytest.mark.parametrize("rank", [0, 1])
def test_the_pipeline_is_refused_in_several_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rank: int
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", str(rank))
    out = tmp_path / "run"
    assert error_of(pipeline.run, settings.load(mini_recipe(tmp_path)), out, print) == (
        "the pipeline runs in one process · got one of several, as torchrun starts · run it in one process with "
        f"--until corpus, then `tprune train {out}/corpus --out {out}/dense` with the same recipe in several, then it "
        "again in one"
    )
    assert not out.exists()
