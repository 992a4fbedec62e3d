"""What suites hold and what they refuse, before anything is made."""

from pathlib import Path

import pytest

from tests.artifacts import error_of
from tests.benchmarks.small_suite import SMALL, write
from tprune import ablation
from tprune.benchmarks import suite


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ('name = "random"', 'name = "magnitude"', "two rows are called magnitude"),
        ("fresh = true", 'shapes = ["huge"]', "no shape is called huge"),
        ("fresh = true", 'shapes = ["small", "small"]', "shape small stands twice"),
        ("seeds = [1]", "seeds = [2, 1, 2]", "seed 2 stands twice"),
        ("keep = 0.9", "keep = 9", "keep"),
        ("fresh = true", "target = {{ score = 7 }}", "score"),
        ("fresh = true", "stale = true", "unknown key rows.4.stale"),
    ],
)
def test_a_suite_that_does_not_fit(tmp_path: Path, old: str, new: str, problem: str) -> None:
    said = error_of(suite.load, write(tmp_path, SMALL.replace(old, new, 1)))
    assert "the suite does not fit" in said
    assert problem in said


def test_a_row_may_not_change_what_all_share(tmp_path: Path) -> None:
    given = suite.load(write(tmp_path, SMALL.replace('set = ["distill.on=true"]', 'set = ["learn.steps=3"]', 1)))
    assert "row shs-in-rounds: a row changes what all rows share · got learn" in error_of(
        ablation.run, given, tmp_path / "out", lambda _: None
    )
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("target", "problem"),
    [
        ('score = "group_lasso"', "no model is trained for this score"),
        ("vocabulary = 2", "a row that takes another shape keeps the vocabulary"),
    ],
)
def test_a_target_that_no_row_can_have(tmp_path: Path, target: str, problem: str) -> None:
    given = suite.load(write(tmp_path, SMALL.replace('score = "random"', target, 1)))
    assert problem in error_of(ablation.run, given, tmp_path / "out", lambda _: None)


def test_no_such_suite(tmp_path: Path) -> None:
    assert "no such suite" in error_of(suite.load, tmp_path / "none.toml")
    (tmp_path / "bad.toml").write_text("name = ")
    assert "not valid TOML" in error_of(suite.load, tmp_path / "bad.toml")


def test_a_target_that_the_recipe_does_not_have(tmp_path: Path) -> None:
    text = 'name = "one"\nrecipe = "multi30k"\n[[shapes]]\nname = "x"\ntarget = "30x"\n[[rows]]\nname = "y"\n'
    said = error_of(suite.load, write(tmp_path, text))
    assert all(part in said for part in ("30x", "3x | 4x | 5x", str(tmp_path)))


def test_overrides_reach_the_recipes_targets_too(tmp_path: Path) -> None:
    text = 'name = "one"\nrecipe = "multi30k"\n[[shapes]]\nname = "x"\ntarget = "9x"\n[[rows]]\nname = "y"\n'
    target = 'targets=[{name="9x",planner="latency",budget="speedup",amount=9.0,table="measure",score="obs"}]'
    given = suite.load(write(tmp_path, text), [target, "recover.steps=7"])
    (job,) = suite.jobs(given)
    assert (job.target.amount, job.target.name, given.set) == (9.0, "x.y", (target, "recover.steps=7"))


def test_another_planner_does_not_inherit_a_budget_in_time(tmp_path: Path) -> None:
    text = SMALL.replace(
        'planner = "uniform", keep = 0.9', 'planner = "latency", budget = "speedup", amount = 2.0, table = "measure"'
    )
    found = {job.entry.name: job for job in suite.jobs(suite.load(write(tmp_path, text)))}
    assert (found["magnitude"].target.amount, found["magnitude"].matches) == (2.0, False)
    own = found["own"].target
    assert (own.planner, own.budget, own.amount, own.table) == ("global", "flops", None, None)
    assert found["own"].matches
