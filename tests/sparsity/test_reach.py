"""Budgets that no plan can meet are known before there are weights."""

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.sparsity.small_models import config, configs
from tprune.config import Target
from tprune.delivery_config import Table
from tprune.errors import BudgetError, PlanError
from tprune.model.shape import TPruneConfig, dense_config
from tprune.settings import RECIPES, load
from tprune.sparsity import cost, lines, planner, reach

OPUS_MT = dense_config(
    vocab_size=58101, d_model=512, heads=8, ffn=2048, encoder_layers=6, decoder_layers=6, norm="post", activation="silu"
)
"""What Helsinki-NLP/opus-mt-en-de is."""


def target(**values: object) -> Target:
    return Target.model_validate({"name": "t", "grid": 4} | values)


def dense_shape(recipe: str) -> TPruneConfig:
    chosen = load(recipe)
    size = chosen.model.model_dump(exclude={"seed"})
    return OPUS_MT if chosen.start else dense_config(vocab_size=chosen.text.vocabulary, **size)


@pytest.mark.parametrize("recipe", sorted(path.stem for path in RECIPES.glob("*.toml")))
def test_every_recipe_s_targets_can_be_met_by_its_own_model(recipe: str) -> None:
    shape, chosen = dense_shape(recipe), load(recipe)
    reach.require(shape, chosen.targets, chosen.table)
    for wanted in chosen.targets:
        if wanted.planner in reach.BUDGETED:  # and the plan is made, not only foretold
            scores = {group.name: torch.rand(group.size) for group in lines.groups(shape, lines.WIDTH_KINDS)}
            assert planner.make(shape, wanted, scores).keep


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(configs(), st.sampled_from(["uniform", "global"]), st.sampled_from(["parameters", "flops"]), st.integers(1, 5))
def test_the_least_is_what_the_planner_stops_at(shapes: TPruneConfig, how: str, budget: str, grid: int) -> None:
    wanted = target(planner=how, budget=budget, grid=grid, keep=1e-9)
    scores = {group.name: torch.rand(group.size) for group in lines.groups(shapes, lines.WIDTH_KINDS)}
    with pytest.raises(BudgetError) as stopped:
        planner.make(shapes, wanted, scores)
    assert reach.least(shapes, wanted) == stopped.value.least


def test_all_that_cannot_be_met_in_one_error() -> None:
    targets = [
        target(name="few", keep=0.05),
        target(name="fine", keep=0.9),
        target(name="deep", drop_decoder_layers=6),
        target(name="slow", keep=0.35, grid=8, drop_decoder_layers=3),
    ]
    with pytest.raises(PlanError) as refused:
        reach.require(OPUS_MT, targets, Table())
    assert refused.value.problems == (
        "target few: keep = 0.05 of the flops, where the smallest model has 0.444",
        "target deep: drops 6 of 6 decoder layers, of which one has to stay",
        "target slow: keep = 0.35 of the flops, where the smallest model has 0.448",
    )


def test_a_round_must_be_met_with_the_layers_that_it_drops() -> None:
    three, two = (config(d_model=32, heads=1, width=1, ffn=1, depth=depth) for depth in (3, 2))  # only layers can go
    one = target(drop_encoder_layers=1, drop_decoder_layers=1)
    assert reach.least(three, one) == cost.total(two, "flops") < cost.total(three, "flops")
    both = one.model_copy(update={"rounds": 2, "drop_encoder_layers": 2, "drop_decoder_layers": 2})
    assert reach.least(three, both, 1) == cost.total(two, "flops") > reach.least(three, both)
    keep = reach.least(three, both) / cost.total(three, "flops")  # all that is left in the end, too little at half time
    with pytest.raises(PlanError, match=r"where the smallest model of round 1 has 0\.\d+"):
        reach.require(three, [both.model_copy(update={"keep": keep})], Table())


def test_what_is_cut_before_the_plan_counts() -> None:
    narrow, whole = target(hidden=0.5, grid=4), target(grid=4)
    shapes = config(d_model=16, norm="pre")
    assert reach.least(shapes, narrow) < reach.least(shapes, whole)
    parameters = narrow.model_copy(update={"budget": "parameters"})
    turned = config(d_model=8, norm="pre", tie_output=False, output_bias=True)
    assert reach.least(shapes, parameters) == reach.least(turned, parameters.model_copy(update={"hidden": None}))
    few = target(vocabulary=1)
    assert reach.least(shapes, few) == reach.least(shapes, whole) - 2 * 16 * shapes.vocab_size * cost.TARGET_TOKENS


def test_widths_that_the_table_will_not_have() -> None:
    wanted = {"planner": "latency", "budget": "speedup", "amount": 2.0}
    targets = [
        target(name="fine", grid=8, hidden=0.5, table="measure", **wanted),
        target(name="fine-grained", hidden=0.5, table="measure", **wanted),
        target(name="narrow", grid=8, hidden=0.25, table="measure", **wanted),
        target(name="known", hidden=0.25, table="a table of somebody's", **wanted),
    ]
    with pytest.raises(PlanError) as refused:
        reach.require(OPUS_MT, targets, Table(d_models=(256, 384)))
    assert refused.value.problems == (
        "target fine-grained: grid = 4, where table.least_width is 8",
        "target narrow: hidden leaves 128 dimensions, where the narrowest stream of the table has 256",
    )
    assert "table.d_models" in str(refused.value)
    reach.require(OPUS_MT, [target(grid=8, table="measure", **wanted)], Table())  # its own width alone
