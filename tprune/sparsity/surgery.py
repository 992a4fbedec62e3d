"""Cutting units out of a model, or masking them at the old size; both give the same logits."""

import copy
from collections.abc import Mapping

import torch
from torch import Tensor

from tprune.model.shape import TPruneConfig
from tprune.model.transformer import TPruneForConditionalGeneration
from tprune.sparsity import lines, plan
from tprune.sparsity.lines import STACKS
from tprune.sparsity.plan import Plan


def prune(model: TPruneForConditionalGeneration, chosen: Plan) -> TPruneForConditionalGeneration:
    """A smaller model that holds copies of the kept lines; `model` is not changed.

    Raises:
        PlanError: The plan does not fit the model.
    """
    plan.check(chosen, model.config)
    shapes = plan.pruned_shapes(model.config, chosen)
    smaller = TPruneForConditionalGeneration(_with_shapes(model.config, shapes))
    smaller.generation_config = copy.deepcopy(model.generation_config)
    smaller.load_state_dict(_kept_lines(model, chosen))
    return smaller.to(model.device).train(model.training)  # type: ignore[no-any-return]


def mask(model: TPruneForConditionalGeneration, chosen: Plan) -> TPruneForConditionalGeneration:
    """A copy whose dropped units are hard-zeroed at the old widths.

    A dropped sub-layer or layer has no width to keep: it is left out, that is the identity.

    Raises:
        PlanError: The plan does not fit the model.
    """
    plan.check(chosen, model.config)
    masked = copy.deepcopy(model)
    parameters = dict(masked.named_parameters())
    with torch.no_grad():
        for group in lines.groups(model.config, lines.WIDTH_KINDS):
            lines.zero_units(group, _dropped(chosen, group), parameters)
    whole = {name: units for name, units in chosen.keep.items() if name.endswith((".layer", ".sublayer"))}
    return prune(masked, plan.make(chosen.name, model.config, whole, {}))


def _dropped(chosen: Plan, group: lines.Group) -> list[int]:
    return sorted(set(range(group.size)) - set(plan.kept(chosen, group)))


def _with_shapes(config: TPruneConfig, shapes: Mapping[str, list[dict[str, object]]]) -> TPruneConfig:
    smaller = copy.deepcopy(config)
    smaller.encoder_shapes, smaller.decoder_shapes = shapes["encoder"], shapes["decoder"]
    return smaller


def _kept_lines(model: TPruneForConditionalGeneration, chosen: Plan) -> dict[str, Tensor]:
    state = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
    for group in lines.groups(model.config, lines.WIDTH_KINDS):
        units = torch.tensor(plan.kept(chosen, group), dtype=torch.long, device=model.device)
        for member in group.members[0]:
            state[member.parameter] = state[member.parameter].index_select(member.axis, units)
    by_name = {group.name: group for group in lines.groups(model.config)}
    for stack in STACKS:
        layers = plan.kept(chosen, by_name[f"{stack}.layer"])
        for index, shape in enumerate(lines.layer_shapes(model.config, stack)):
            there = lines.sublayers(shape)
            alive = [there[unit] for unit in plan.kept(chosen, by_name[f"{stack}.{index}.sublayer"])]
            for sublayer in there:
                prefix = lines.module_name(stack, index, sublayer) + "."
                moved = {name: state.pop(name) for name in [*state] if name.startswith(prefix)}
                if index in layers and sublayer in alive:
                    new = lines.module_name(stack, layers.index(index), sublayer) + "."
                    # parked under a name no old layer has, until every layer has moved
                    state.update({"new:" + new + name.removeprefix(prefix): tensor for name, tensor in moved.items()})
    return {name.removeprefix("new:"): tensor for name, tensor in state.items()}
