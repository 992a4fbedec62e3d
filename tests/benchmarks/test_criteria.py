"""Rows of the criteria benchmark on a tiny model."""

from dataclasses import dataclass

import pytest

from tests.sparsity.small_models import Sentences, config, model_of
from tprune.benchmarks import criteria
from tprune.config import Target
from tprune.learn.evaluate import token_loss
from tprune.sparsity import cost, lines, planner, scores, surgery

SHAPES = config(d_model=16, heads=2, width=8, ffn=24)
ANALYSIS = {
    "dense": {"loss": 3.0},
    "sensitivity": [
        {"component": group.name, "kind": group.kind, "share": 0.5, "loss": 3.1}
        for group in lines.groups(SHAPES, lines.WIDTH_KINDS)
    ],
}


@dataclass(frozen=True)
class Text:
    """A corpus of random sentences."""

    train: str = "train"
    valid: str = "valid"

    def split(self, name: str) -> Sentences:
        return Sentences.random(40, seed={"train": 1, "valid": 2}[name])


@pytest.fixture(scope="module")
def rows() -> list[dict[str, object]]:
    models = {"dense": model_of(SHAPES), "shs": model_of(SHAPES, 1)}
    return list(criteria.measure(models, ANALYSIS, Text(), 0.9))  # type: ignore[arg-type]


def test_every_criterion_has_its_rows(rows: list[dict[str, object]]) -> None:
    found = [(row["planner"], row["score"], row["seed"]) for row in rows]
    assert len(found) == len(set(found)) == 2 * (8 + 3)
    assert {score for _, score, _ in found} == {*scores.SCORES, *scores.TEXT_SCORES} - {"group_lasso"}


def test_a_row_says_what_the_cut_costs(rows: list[dict[str, object]]) -> None:
    (row,) = (row for row in rows if (row["score"], row["planner"]) == ("magnitude", "uniform"))
    model, valid = model_of(SHAPES), Text().split("valid")
    found = scores.score("magnitude", model, lines.groups(SHAPES, lines.WIDTH_KINDS), None, 1)
    target = Target(name="x", score="magnitude", planner="uniform", keep=0.9)
    cut = surgery.prune(model, planner.make(SHAPES, target, found))
    assert row["loss"] == pytest.approx(token_loss(cut, valid), rel=1e-5)
    assert row["loss_uncut"] == pytest.approx(token_loss(model, valid), rel=1e-5)
    assert row["loss_compensated"] != row["loss"]
    assert row["parameters"] == cut.num_parameters()
    for each in rows:
        assert cost.total(SHAPES, "flops", each["widths"]) <= 0.9 * cost.total(SHAPES, "flops")  # type: ignore[arg-type]


def test_rows_that_are_done_are_not_measured_again(rows: list[dict[str, object]]) -> None:
    models = {"dense": model_of(SHAPES)}
    left = [row for row in rows if row["score"] == "random" and row["seed"] == 2]
    done = [row for row in rows if row not in left]
    again = list(criteria.measure(models, ANALYSIS, Text(), 0.9, done))  # type: ignore[arg-type]
    assert [(row["planner"], row["seed"]) for row in again] == [("uniform", 2), ("global", 2)]
    assert [row["loss"] for row in again] == [row["loss"] for row in left]
