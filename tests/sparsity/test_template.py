"""The template's shape, other units; in rounds, ever closer to it."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.sparsity.small_models import config, configs, model_of, plans
from tprune.config import Target
from tprune.errors import PlanError
from tprune.model.shape import TPruneConfig
from tprune.sparsity import lines, plan, planner, surgery, template

TARGET = Target(name="t", score="random")


def random_scores(shapes: TPruneConfig, seed: int) -> dict[str, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    return {group.name: torch.rand(group.size, generator=draw) for group in lines.groups(shapes, lines.WIDTH_KINDS)}


@settings(max_examples=60, deadline=None)
@given(st.data(), st.integers(0, 9))
def test_the_shape_is_the_templates_and_the_units_are_the_best(data: Any, seed: int) -> None:
    shapes = data.draw(configs())
    wanted = data.draw(plans(shapes))
    scores = random_scores(shapes, seed)
    chosen = template.choose(shapes, TARGET, scores, wanted)
    plan.check(chosen, shapes)
    assert plan.pruned_shapes(shapes, chosen) == plan.pruned_shapes(shapes, wanted)
    for group in lines.groups(shapes):
        if group.kind not in lines.WIDTH_KINDS:
            assert plan.kept(chosen, group) == plan.kept(wanted, group)
        elif group.name in chosen.keep:
            width = group.size // group.heads
            for head in range(group.heads):
                mine = {unit for unit in chosen.keep[group.name] if unit // width == head}
                others = set(range(head * width, (head + 1) * width)) - mine
                if mine and others:
                    assert min(scores[group.name][[*mine]]) >= max(scores[group.name][[*others]])


@settings(max_examples=20, deadline=None)
@given(st.data(), st.integers(1, 4))
def test_rounds_come_closer_and_end_at_the_templates_shape(data: Any, rounds: int) -> None:
    dense = data.draw(configs())
    wanted = data.draw(plans(dense))
    model, sizes = model_of(dense), []
    for number in range(rounds):
        chosen = template.choose(
            model.config, TARGET, random_scores(model.config, number), wanted, rounds_left=rounds - number
        )
        model = surgery.prune(model, chosen)
        sizes.append(sum(parameter.numel() for parameter in model.parameters()))
    expected = surgery.prune(model_of(dense), wanted)
    assert model.config.encoder_shapes == expected.config.encoder_shapes
    assert model.config.decoder_shapes == expected.config.decoder_shapes
    assert sizes == sorted(sizes, reverse=True)


def test_widths_of_rounds_lie_geometrically_between() -> None:
    dense = config(ffn=100, depth=1)
    wanted = plan.make("small", dense, {"encoder.0.ffn": tuple(range(25))}, {})
    half = template.choose(dense, TARGET, random_scores(dense, 0), wanted, rounds_left=2)
    assert len(half.keep["encoder.0.ffn"]) == 50
    assert half.how["template"] == "small"


@pytest.mark.parametrize(
    ("depth", "ffn", "problem"),
    [
        (
            3,
            20,
            "target t, template small: the template is a plan for another model · got 3 encoder layers +",
        ),
        (2, 6, "encoder.0.ffn of target t: narrower than the template already · got 6 · wanted 10"),
    ],
)
def test_a_model_that_is_not_the_templates(depth: int, ffn: int, problem: str) -> None:
    wanted = plan.make("small", config(ffn=20, depth=2), {"encoder.0.ffn": tuple(range(10))}, {})
    other = config(ffn=ffn, depth=depth)
    with pytest.raises(PlanError) as caught:
        template.choose(other, TARGET, random_scores(other, 0), wanted)
    assert problem in str(caught.value)


class ByWidth:
    """Times that rise with the width, differently in each place."""

    def sublayer(self, d_model: int, stack: str, name: str, shape: Any) -> float:
        width = shape if name == "ffn" else shape["heads"] * (shape["qk"] + 2 * shape["v"])
        return float(width) * (3 if stack == "decoder" else 1) + (1 if width else 0)

    def rest(self, d_model: int, vocabulary: int) -> float:
        return 10.0

    def whole(self, parts_ms: float) -> float:
        return parts_ms

    def parts(self, whole_ms: float) -> float:
        return whole_ms


def milliseconds(shapes: dict[str, list[dict[str, Any]]]) -> float:
    """What ByWidth says of a model, summed up here."""
    parts = [
        (stack, name, shape) for stack, layers in shapes.items() for layer in layers for name, shape in layer.items()
    ]
    return 10 + sum(ByWidth().sublayer(0, *part) for part in parts)


@pytest.mark.parametrize("how", ["uniform", "global"])
def test_another_planner_gets_the_templates_time_and_hardly_less(how: str) -> None:
    shapes = config(ffn=24, heads=2, width=8, depth=2)
    keep = {f"{stack}.{layer}.ffn": tuple(range(7)) for stack in ("encoder", "decoder") for layer in (0, 1)}
    wanted, scores = plan.make("narrow", shapes, keep, {}), random_scores(shapes, 1)
    target = Target.model_validate({"name": "t", "planner": how, "grid": 1, "keep": 0.01})
    found = template.match(shapes, target, scores, wanted, ByWidth())
    limit = milliseconds(plan.pruned_shapes(shapes, wanted))
    possible = []
    for step in range(1, template.STEPS + 1):
        try:
            made = planner.make(shapes, target.model_copy(update={"keep": step / template.STEPS}), scores)
        except PlanError:
            continue
        took = milliseconds(plan.pruned_shapes(shapes, made))
        if took <= limit:
            possible.append((took, made.keep))
    assert found.keep == possible[-1][1]
    assert found.how["predicted_ms"] == pytest.approx(max(took for took, _ in possible))
    assert found.how["template_ms"] == pytest.approx(limit)
    assert 0.9 * limit < found.how["predicted_ms"] <= limit


def test_a_planner_that_cannot_be_as_quick_says_so() -> None:
    shapes = config(ffn=24, depth=2)
    wanted = plan.make("shallow", shapes, {"decoder.layer": (0,), "encoder.0.ffn": (0,), "decoder.0.ffn": (0,)}, {})
    with pytest.raises(PlanError, match="target t, template shallow: cannot be as quick as the template"):
        template.match(shapes, Target(name="t", grid=12), random_scores(shapes, 0), wanted, ByWidth())
