"""Cutting units out of a model, or masking them at the old size; both give the same logits."""

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from tprune.errors import PlanError
from tprune.model.transformer import TPruneForConditionalGeneration
from tprune.sparsity import lines, plan
from tprune.sparsity.lines import STACKS
from tprune.sparsity.plan import Plan

CUT_KINDS = (*lines.WIDTH_KINDS, "hidden", "vocab")  # of which lines are taken out of tensors


def prune(model: TPruneForConditionalGeneration, chosen: Plan) -> TPruneForConditionalGeneration:
    """A smaller model that holds copies of the kept lines; `model` is not changed.

    Raises:
        PlanError: The plan does not fit the model.
    """
    plan.check(chosen, model.config)
    smaller = TPruneForConditionalGeneration(plan.pruned_config(model.config, chosen))
    smaller.generation_config = _generation_config(model, chosen)
    smaller.load_state_dict(_kept_lines(model, chosen))
    return smaller.to(model.device).train(model.training)  # type: ignore[no-any-return]


def mask(model: TPruneForConditionalGeneration, chosen: Plan) -> TPruneForConditionalGeneration:
    """A copy whose dropped units are hard-zeroed at the old widths.

    A dropped sub-layer or layer has no width to keep: it is left out, that is the identity. The vocabulary stays as it
    is: a token that is not kept changes nothing as long as nobody says it, so that the logits of the kept tokens are
    those of the pruned model, in another order.

    Without a dimension of the residual stream, a normalization takes mean and variance of fewer numbers. Zeros at the
    old width alone would give other logits than the cut model has: the mask also corrects the normalizations.

    Raises:
        PlanError: The plan does not fit the model.
    """
    plan.check(chosen, model.config)
    masked = copy.deepcopy(model)
    parameters = dict(masked.named_parameters())
    with torch.no_grad():
        for group in lines.groups(model.config, (*lines.WIDTH_KINDS, "hidden")):
            lines.zero_units(group, _dropped(chosen, group), parameters)
    whole = {name: units for name, units in chosen.keep.items() if name.endswith((".layer", ".sublayer"))}
    masked = prune(masked, plan.make(chosen.name, model.config, whole, {}))
    dimensions = chosen.keep.get(lines.HIDDEN, range(model.config.d_model))
    if len(dimensions) < model.config.d_model:
        _correct_norms(masked, dimensions)
    return masked


class KeptNorm(nn.LayerNorm):
    """A LayerNorm over some dimensions of its input (..., D), which is zero in the others, as is the output.

    Args:
        norm: The one over all dimensions; its weight and bias are taken over.
        kept: The dimensions that count.
    """

    counts: Tensor

    def __init__(self, norm: nn.LayerNorm, kept: Sequence[int]) -> None:
        super().__init__(norm.normalized_shape, norm.eps)
        self.load_state_dict(norm.state_dict())
        counts = torch.zeros(norm.normalized_shape)
        counts[list(kept)] = 1
        self.register_buffer("counts", counts, persistent=False)
        self.size = len(kept)

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) -> (..., D), mean and variance of the kept dimensions."""
        centered = (x - x.sum(-1, keepdim=True) / self.size) * self.counts
        variance = centered.square().sum(-1, keepdim=True) / self.size
        return centered * torch.rsqrt(variance + self.eps) * self.weight + self.bias


def _correct_norms(model: TPruneForConditionalGeneration, kept: Sequence[int]) -> None:
    for module in [*model.modules()]:
        for name, norm in module.named_children():
            if isinstance(norm, nn.LayerNorm):
                setattr(module, name, KeptNorm(norm, kept).to(model.device).train(norm.training))


def _dropped(chosen: Plan, group: lines.Group) -> list[int]:
    return sorted(set(range(group.size)) - set(plan.kept(chosen, group)))


def _generation_config(model: TPruneForConditionalGeneration, chosen: Plan) -> Any:
    """Its settings with the new token ids; banned tokens that are gone need no ban."""
    settings = copy.deepcopy(model.generation_config)
    if not plan.trims(chosen):
        return settings
    output = next(group for group in lines.groups(model.config, ("vocab",)) if group.name == lines.OUTPUT)
    new = {old: token for token, old in enumerate(plan.order(model.config, chosen, output))}
    for name, value in vars(settings).items():
        if name.endswith("_token_id") and value is not None:
            tokens = value if isinstance(value, list) else [value]
            if gone := [token for token in tokens if token not in new]:
                raise PlanError(
                    "the model's generation settings need a token that is not kept",
                    where=f"plan {chosen.name}",
                    got=f"{name} {gone[0]}",
                    fix="keep it in `vocab` and `output`",
                )
            setattr(settings, name, [new[token] for token in tokens] if isinstance(value, list) else new[value])
    for name in ("suppress_tokens", "begin_suppress_tokens"):
        if getattr(settings, name, None):
            setattr(settings, name, [new[token] for token in getattr(settings, name) if token in new] or None)
    if settings.bad_words_ids:
        words = [[new[token] for token in word] for word in settings.bad_words_ids if new.keys() >= set(word)]
        settings.bad_words_ids = words or None
    return settings


def _kept_lines(model: TPruneForConditionalGeneration, chosen: Plan) -> dict[str, Tensor]:
    state = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
    for group in lines.groups(model.config, CUT_KINDS):
        units = torch.tensor(plan.order(model.config, chosen, group), dtype=torch.long, device=model.device)
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
