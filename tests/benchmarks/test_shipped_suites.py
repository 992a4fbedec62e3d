"""The suites that are shipped."""

from tests.conftest import ROOT
from tprune import settings
from tprune.benchmarks import suite
from tprune.sparsity.scores import SCORES, TEXT_SCORES


def test_the_shipped_suite_compares_every_criterion() -> None:
    shipped = suite.load(ROOT / "benchmarks" / "suite.toml")
    same = [job for job in suite.jobs(shipped) if job.entry.widths == "same" and not job.entry.fresh]
    assert {job.target.score for job in same} == {*SCORES, *TEXT_SCORES}
    assert {job.shape for job in same} == {shape.name for shape in shipped.shapes}
    for job in suite.jobs(shipped):
        settings.load(shipped.recipe, [*shipped.set, *job.entry.set])


def test_the_shipped_headline_is_the_recipes_own_target_with_three_seeds() -> None:
    shipped = suite.load(ROOT / "benchmarks" / "speedups.toml")
    (target,) = (target for target in settings.load("multi30k").targets if target.name == "3x")
    found = [job for job in suite.jobs(shipped) if job.entry.widths != "dense"]
    assert [job.seed for job in found] == [1, 2, 3]
    assert {job.target.model_copy(update={"name": "3x"}) for job in found} == {target}
    assert not any(job.follows(table=True) for job in found)
