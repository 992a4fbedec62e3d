"""A stage that was killed goes on where it was, and only with the same inputs."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.command import mini_recipe
from tprune import delivery, ranks, settings, stages
from tprune.artifact import Artifact
from tprune.benchmarks import comparison, record
from tprune.benchmarks.record import Row
from tprune.config import Config
from tprune.json_file import read_json
from tprune.learn import evaluate, trainer
from tprune.learn.evaluate import token_loss

LAYER = 4 + 2  # a share of the heads, keys, values and widths of the encoder's layer, and its two sub-layers


class PowerError(Exception):
    """The power goes off."""


class Measure:
    """The validation loss, counted, until the power goes off."""

    def __init__(self, last: int | None = None) -> None:
        self.calls, self.last = 0, last

    def __call__(self, *given: Any) -> float:
        if self.calls == self.last:
            raise PowerError
        self.calls += 1
        return token_loss(*given)


class Made:
    """A corpus and a model of it."""

    def __init__(self, folder: Path) -> None:
        self.recipe: Config = settings.load(mini_recipe(folder, steps="2", checkpoint_every="2"))
        self.text = stages.corpus(folder / "corpus", self.recipe.text).make(False)
        self.model = stages.train(folder / "dense", self.text, self.recipe.model, self.recipe.learn, None).make(False)

    def analyze(self, out: Path, **changes: Any) -> Artifact:
        chosen = self.recipe.analyze.model_copy(update={"bleu_sentences": 0, **changes})
        return stages.analyze(out, self.model, self.text, chosen, None).make(False)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return Made(tmp_path_factory.mktemp("stages"))


@pytest.fixture(autouse=True)
def no_training(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainer, "fit", lambda *_, **__: [])


def test_an_analysis_that_was_killed_measures_no_component_twice(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def analyzed(out: str, last: int | None = None, **changes: Any) -> tuple[Any, int]:
        measure = Measure(last)
        monkeypatch.setattr(evaluate, "token_loss", measure)
        return read_json(made.analyze(tmp_path / out, **changes).path / "analysis.json"), measure.calls

    expected, calls = analyzed("undisturbed")
    for out in ("same", "other"):
        with pytest.raises(PowerError):
            analyzed(out, last=1 + LAYER + 1)  # the model as it is, the encoder's layer, and one part more
    assert analyzed("same") == (expected, calls - LAYER - 1)
    assert analyzed("other", sentences=9)[1] == calls
    assert [path.name for path in (tmp_path / "same").iterdir() if path.is_dir()] == []


def test_of_several_processes_the_first_one_measures(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = made.analyze(tmp_path / "out")
    monkeypatch.setattr(ranks, "is_follower", lambda: True)
    monkeypatch.setattr(evaluate, "token_loss", Measure(last=0))
    assert made.analyze(tmp_path / "out").identity == first.identity


def test_a_benchmark_that_was_killed_times_no_engine_twice(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def off(*_: Any) -> Iterator[Row]:
        raise PowerError

    entries = {("pytorch", "fp32", name): made.model for name in ("dense", "same")}
    bench = made.recipe.bench.model_copy(update={"rounds": 2, "seconds": 0.0, "beam": 2})
    described = delivery.bench(tmp_path / "out", "x", entries, made.text, bench)
    with monkeypatch.context() as patch:
        patch.setattr(comparison, "_untimed_rows", off)
        with pytest.raises(PowerError):
            described.make(False)
    monkeypatch.setattr(comparison, "_timed_rows", off)
    rows = record.read(described.make(False).path / "results.json")
    assert [(row.model, row.decode) for row in rows] == [
        ("dense", "greedy"), ("same", "greedy"), ("dense", "beam2"), ("same", "beam2"),
    ]  # fmt: skip
    assert [row.latency_ms is None for row in rows] == [False, False, True, True]


def test_where_a_table_lies_makes_nothing_stale(made: Made, tmp_path: Path) -> None:
    target = made.recipe.targets[0].model_copy(
        update={"planner": "latency", "budget": "speedup", "amount": 2.0, "keep": 0.5}
    )
    shs, plans = set(), set()
    for path in ("table", "./table"):
        settings = made.recipe.shs.model_copy(update={"table": path})
        shs.add(stages.shs(tmp_path, made.model, made.model, made.text, settings, None, table=made.model).fingerprint)
        wanted = target.model_copy(update={"table": path})
        plans.add(stages.plan(tmp_path, made.model, None, None, wanted, 1, table=made.model).fingerprint)
    assert (len(shs), len(plans)) == (1, 1)
    assert stages.plan(tmp_path, made.model, None, None, target, 1, table=made.text).fingerprint not in plans
