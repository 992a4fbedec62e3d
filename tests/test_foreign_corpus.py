"""Every stage that is given a model and a corpus refuses one of another tokenizer, and trains on splits of any name."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.artifacts import error_of
from tests.command import mini_recipe
from tests.text.folders import TEST, TRAIN, VALID, write
from tprune import artifact, delivery, recovery, settings, stages, trim
from tprune.artifact import Artifact
from tprune.benchmarks import filling, quality
from tprune.config import Target
from tprune.json_file import read_json
from tprune.stage import Stage
from tprune.text.corpus import open_corpus


class Made:
    """A corpus whose splits are not called train and valid, its model, and the same text in other tokens."""

    def __init__(self, folder: Path) -> None:
        for name, pairs in (("fit", TRAIN), ("dev", VALID), ("test", TEST)):
            write(folder / "text", name, pairs)
        self.recipe = settings.load(
            mini_recipe(folder, steps="2", checkpoint_every="2", vocabulary="330", kind='"files"'),
            [f"text.folder={folder / 'text'}", "text.train=fit", "text.valid=dev", "analyze.shares=[]"],
        )
        self.text, self.other = (
            stages.corpus(folder / name, self.recipe.text.model_copy(update={"tokenizer": name})).make(False)
            for name in ("unigram", "bpe")
        )
        self.model = self.make(stages.train(folder / "dense", self.text, self.recipe.model, self.recipe.learn, None))
        self.analysis = self.make(stages.analyze(folder / "analysis", self.model, self.text, self.recipe.analyze, None))
        self.plan = self.make(stages.plan(folder / "plan", self.model, None, None, self.target(), 1))

    def make(self, stage: Stage) -> Artifact:
        return stage.make(False)

    def target(self, **changes: Any) -> Target:
        return Target.model_validate({"name": "t", "score": "magnitude", "keep": 0.9, "grid": 4, **changes})


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return Made(tmp_path_factory.mktemp("foreign"))


STAGES: dict[str, Callable[[Made, Path, Artifact], Stage]] = {
    "analyze": lambda made, out, text: stages.analyze(out, made.model, text, made.recipe.analyze, None),
    "shs": lambda made, out, text: stages.shs(out, made.model, made.analysis, text, made.recipe.shs, None),
    "plan": lambda made, out, text: stages.plan(out, made.model, None, text, made.target(), 1),
    "prune": lambda made, out, text: stages.prune(out, made.model, made.plan, text),
    "stream": lambda made, out, text: trim.stream(out, made.model, text, made.target(hidden=0.5), 1),
    "trim": lambda made, out, text: trim.plan(
        out, trim.Trimmed(made.model, made.model, text, text), made.target(vocabulary=1), 1
    ),
    "distill": lambda made, out, text: recovery.distill(out, made.model, text, made.recipe.distill),
    "recover": lambda made, out, text: recovery.recover(out, made.model, made.model, text, made.recipe.recovery, None),
    "validate": lambda made, out, text: recovery.validate(out, made.model, text),
}


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_refuses_a_foreign_corpus_and_takes_its_own(made: Made, tmp_path: Path, name: str) -> None:
    said = error_of(STAGES[name](made, tmp_path / "out", made.other).make, False)
    assert said.startswith(f"{made.other.path}: the corpus was not tokenized for the model {made.model.path} · got ")
    assert f"tprune corpus --tokenizer {made.model.path}" in said
    assert not (tmp_path / "out").exists()
    assert STAGES[name](made, tmp_path / "out", made.text).make(False).path == tmp_path / "out"


def test_a_model_with_fewer_tokens_is_recovered_with_its_own_teacher_and_text(made: Made, tmp_path: Path) -> None:
    whole = trim.Trimmed(made.model, made.model, made.text, made.text)
    few = trim.prepare(made.target(vocabulary=1), whole, tmp_path / "small.trimmed", made.make, 1)

    def recovered(out: str, teacher: Artifact, text: Artifact) -> Stage:
        return recovery.recover(tmp_path / out, few.base, teacher, text, made.recipe.recovery, None)

    for teacher, text in ((made.model, made.text), (few.teacher, made.text), (made.model, few.text)):
        assert "OUT.trimmed/corpus, and OUT.trimmed/dense as the teacher" in error_of(
            recovered("wrong", teacher, text).make, False
        )
    assert recovered("right", few.teacher, few.text).make(False).kind == "model"


def test_what_is_trained_and_tested_on_is_what_the_settings_name(made: Made) -> None:
    assert [entry["step"] for entry in read_json(made.model.path / "history.json") if "eval_loss" in entry] == [2]
    opened = open_corpus(made.text)
    assert quality.test_splits(opened) == ["test"]
    assert quality.split_name(opened) == "test"
    lengths = opened.split("dev").lengths.mean(axis=0)
    assert filling.mean_lengths(made.text) == tuple(round(float(mean)) for mean in lengths)
    assert artifact.read(made.text.path).manifest["config"]["valid"] == "dev"


def test_training_with_shs_records_how_many_lines_are_effective(made: Made, tmp_path: Path) -> None:
    out = stages.shs(tmp_path / "out", made.model, made.analysis, made.text, made.recipe.shs, None).make(False).path
    evaluations = [entry for entry in read_json(out / "history.json") if "eval_loss" in entry]
    assert evaluations
    for entry in evaluations:
        assert all(0 < entry[f"effective_{kind}"] <= 1 for kind in ("ffn", "qk", "vo"))


def test_what_bleu_is_judged_by_is_part_of_a_benchmark(made: Made, tmp_path: Path) -> None:
    changes: list[dict[str, Any]] = [{}, {"test": ("test", "dev")}, {"target": "zh"}]
    texts = []
    for number, change in enumerate(changes):
        folder = tmp_path / f"text{number}"
        shutil.copytree(made.recipe.text.folder or "", folder)
        if "target" in change:
            for path in folder.glob("*.de"):
                path.rename(path.with_suffix(".zh"))
        settings_of_text = made.recipe.text.model_copy(update={"folder": str(folder), **change})
        texts.append(stages.corpus(tmp_path / f"corpus{number}", settings_of_text).make(False))
    entries = {("pytorch", "fp32", "dense"): made.model}
    benches = {delivery.bench(tmp_path / "out", "x", entries, text, made.recipe.bench).fingerprint for text in texts}
    checks = {recovery.validate(tmp_path / "out", made.model, text).fingerprint for text in texts}
    assert len(benches) == len(checks) == 3
