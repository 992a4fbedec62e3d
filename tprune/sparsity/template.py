"""The shape of one plan with units chosen by other scores, so that criteria are compared at the same latency.

A plan decides two things: how wide each group stays, and which of its units. Models of one shape take the same time
whatever the units are; so every criterion may choose its own units for the shape of one template. Planners that choose
widths too are brought to the template's predicted time instead.
"""

import copy
from collections.abc import Mapping
from math import ceil
from typing import Any

from torch import Tensor

from tprune.config import Target
from tprune.errors import PlanError
from tprune.model.shape import TPruneConfig
from tprune.sparsity import latency, lines, order, plan, planner
from tprune.sparsity.latency import Costs, Importance
from tprune.sparsity.lines import Group
from tprune.sparsity.plan import Plan

STEPS = 200  # shares that `match` chooses from


def choose(
    config: TPruneConfig, target: Target, scores: Mapping[str, Tensor], template: Plan, rounds_left: int = 1
) -> Plan:
    """Plan the template's shape with the best units by these scores.

    Layers, sub-layers, heads, and other units that are no widths are the template's own.

    Args:
        config: The template's model, or one that earlier rounds made from it.
        target: What is recorded of how the plan was made.
        scores: (size,) by group name, for the ffn, qk and vo groups.
        template: The plan whose shape is wanted in the end.
        rounds_left: With this one; widths are ceil(w (end / w)^(1 / rounds left)), so that the last round ends there.

    Raises:
        PlanError: The model does not come from the template's.
    """
    end = plan.pruned_shapes(_model_of(template), template)
    whole = {group.name for group in lines.groups(_model_of(template), lines.WIDTH_KINDS)}
    first = template.shapes == plan.shapes_of(config)
    keep = {name: units for name, units in template.keep.items() if name not in whole} if first else {}
    skeleton = plan.make(target.name, config, keep, {})
    now = plan.pruned_shapes(config, skeleton)
    if [len(now[stack]) for stack in lines.STACKS] != [len(end[stack]) for stack in lines.STACKS]:
        raise PlanError(
            "the template is a plan for another model",
            where=f"target {target.name}, template {template.name}",
            got=" + ".join(f"{len(now[stack])} {stack} layers" for stack in lines.STACKS),
            wanted=" + ".join(f"{len(end[stack])} {stack} layers" for stack in lines.STACKS),
            fix="give a template that was made for the same dense model",
        )
    by_name = {group.name: group for group in lines.groups(config)}
    for group in lines.groups(config, lines.WIDTH_KINDS):
        stack, layer, *part = group.name.split(".")
        layers = plan.kept(skeleton, by_name[f"{stack}.layer"])
        if int(layer) not in layers:
            continue
        wanted, width = (_width(shapes[stack][layers.index(int(layer))], part) for shapes in (end, now))
        if wanted in (0, width):
            continue
        if wanted > width:
            raise PlanError(
                "narrower than the template already",
                where=f"{group.name} of target {target.name}",
                got=width,
                wanted=wanted,
                fix="give the model that the template was made for",
            )
        step = ceil(width * (wanted / width) ** (1 / rounds_left) - 1e-9)
        heads = keep.get(f"{stack}.{layer}.{part[0]}.head", tuple(range(group.heads)))
        keep[group.name] = _best(group, scores[group.name], step, heads)
    return plan.make(target.name, config, keep, {**target.model_dump(mode="json"), "template": template.name})


def match(
    config: TPruneConfig,
    target: Target,
    scores: Mapping[str, Tensor],
    template: Plan,
    costs: Costs,
    importance: Importance | None = None,
) -> Plan:
    """Plan with the target's own planner what takes as long as the template's shape, or hardly less.

    Args:
        config: The template's model.
        target: Its planner and budget quantity; its `keep` is what is looked for, in steps of 1 / STEPS.
        scores: (size,) by group name, for the ffn, qk and vo groups.
        template: The plan whose predicted time is wanted.
        costs: Predicted milliseconds.
        importance: What BSSL measured of whole layers.

    Raises:
        PlanError: Not even the smallest model of this planner is as quick, or no plan can be made at all.
    """

    def planned(step: int) -> Plan:
        share = target.model_copy(update={"keep": step / STEPS})
        return planner.make(config, share, scores, importance=importance)

    wanted_ms = latency.total(_shaped(config, plan.pruned_shapes(config, template)), costs)
    planned(STEPS)  # what is wrong with all shares is said here
    found: Plan | None = None
    low, high = 1, STEPS
    while low <= high:  # the greatest share within the time; one too small to be met counts as within
        middle = (low + high) // 2
        try:
            chosen = planned(middle)
        except PlanError:
            low = middle + 1
            continue
        took_ms = latency.total(_shaped(config, plan.pruned_shapes(config, chosen)), costs)
        if took_ms <= wanted_ms:
            times = {"template": template.name, "predicted_ms": took_ms, "template_ms": wanted_ms}
            found, low = chosen.model_copy(update={"how": {**chosen.how, **times}}), middle + 1
        else:
            high = middle - 1
    if found is None:
        raise PlanError(
            "cannot be as quick as the template",
            where=f"target {target.name}, template {template.name}",
            wanted=f"{wanted_ms:.3f} ms",
            fix="drop layers, lower grid, or give a slower template",
        )
    return found


def _best(group: Group, score: Tensor, width: int, heads: tuple[int, ...]) -> tuple[int, ...]:
    """The `width` best units of each of these heads, rising; of equal scores the lower unit."""
    best_first, _ = order.by_head(score, group.heads)
    return order.units(best_first[list(heads), :width])


def _width(layer: Mapping[str, object], part: list[str]) -> int:
    """Width of one head, or of a feed-forward; 0 when the sub-layer is gone."""
    shape = layer[part[0]]
    if isinstance(shape, Mapping):
        return int(shape[{"qk": "qk", "vo": "v"}[part[1]]]) if shape["heads"] else 0
    return int(str(shape))


def _shaped(config: TPruneConfig, shapes: Mapping[str, list[dict[str, Any]]]) -> TPruneConfig:
    smaller = copy.deepcopy(config)
    smaller.encoder_shapes, smaller.decoder_shapes = shapes["encoder"], shapes["decoder"]
    return smaller


def _model_of(template: Plan) -> TPruneConfig:
    return TPruneConfig(
        d_model=template.shapes["d_model"], **{f"{stack}_shapes": template.shapes[stack] for stack in lines.STACKS}
    )
