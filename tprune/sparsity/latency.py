"""The latency-aware planner: the greatest saliency that fits into a time, over widths, heads, sub-layers and layers.

A sub-layer's saliency is the loss that BSSL measured without it, shared among its units by their scores; a layer's is
that of its sub-layers, and what their loss together is more. Times come from a latency table as `Costs`. The choice is
exact, see `tprune.sparsity.knapsack`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from tprune.config import Target
from tprune.errors import PlanError
from tprune.model.shape import TPruneConfig
from tprune.sparsity import knapsack, lines, order, plan
from tprune.sparsity.knapsack import Layer, Option, Stack
from tprune.sparsity.plan import Plan

TICKS = 20_000  # of the unpruned model's time: rounding costs up wastes at most one a sub-layer

Keep = Mapping[str, tuple[int, ...]]


class Costs(Protocol):
    """Milliseconds of the parts of a model, which add up, and of the whole, which rises with their sum."""

    def sublayer(self, d_model: int, stack: str, name: str, shape: Any) -> float:
        """Of one sub-layer of this shape."""
        ...

    def rest(self, d_model: int, vocabulary: int) -> float:
        """Of everything that is in no layer."""
        ...

    def whole(self, parts_ms: float) -> float:
        """Of a model whose parts take so long."""
        ...

    def parts(self, whole_ms: float) -> float:
        """Of the parts of a model that takes so long."""
        ...


@dataclass(frozen=True)
class Importance:
    """Loss increase, in nats a token, when one part is left out, in the order of the group's units."""

    sublayers: Mapping[str, Sequence[float]] = field(default_factory=dict)
    """By group, as `encoder.0.sublayer`; without it a sub-layer counts as the sum of its units' scores."""
    layers: Mapping[str, Sequence[float]] = field(default_factory=dict)
    """By group, as `encoder.layer`; without it a layer counts as the sum of its sub-layers."""


@dataclass(frozen=True)
class _Part:
    """A sub-layer's options and what each keeps; None: the sub-layer is gone."""

    unit: int
    options: tuple[Option, ...]
    keeps: tuple[Keep | None, ...]


def make(
    config: TPruneConfig,
    target: Target,
    scores: Mapping[str, Tensor],
    costs: Costs,
    importance: Importance | None = None,
    *,
    whole: TPruneConfig | None = None,
    layers: Keep | None = None,
) -> Plan:
    """Plan what to keep within a time.

    Args:
        config: The model's configuration.
        target: Budget (speedup or milliseconds), amount and grid.
        scores: (size,) by group name, for the ffn, qk and vo groups; at least 0.
        costs: Predicted milliseconds.
        importance: What BSSL measured.
        whole: What a speedup is over: the model before anything was cut; None: this model.
        layers: Layers that may be kept, by group name (`encoder.layer`); all where it says nothing.

    Returns:
        A plan whose `how` also holds the predicted milliseconds before and after, and their ratio.

    Raises:
        PlanError: Not even the smallest model is within the budget.
        InputError: The costs do not reach a width of the grid.
    """
    known, forced = importance or Importance(), layers or {}
    dense_ms = total(whole or config, costs)
    assert target.amount is not None
    budget = costs.parts(target.amount if target.budget == "milliseconds" else dense_ms / target.amount)
    stacks, parts = [], []
    for stack in lines.STACKS:
        own = []
        shapes = lines.layer_shapes(config, stack)
        for index in forced.get(f"{stack}.layer", range(len(shapes))):
            found = _layer(config, stack, index, scores, costs, known, target.grid)
            own.append(Layer(tuple(part.options for part in found), _gone(known, stack, index, found)))
            parts.append((stack, index, found))
        anchored = any(option.anchor for layer in own for group in layer.groups for option in group)
        stacks.append(Stack(tuple(own), needs_anchor=anchored))
    rest = costs.rest(config.d_model, config.output_size)
    try:
        chosen = knapsack.solve(stacks, budget - rest, costs.parts(dense_ms) / TICKS)
    except PlanError:
        least_ms = costs.whole(rest + _least(stacks))
        raise _impossible(target, costs.whole(budget), least_ms, dense_ms) from None
    predicted_ms = costs.whole(rest + chosen.cost)
    predicted = {
        "dense_ms": dense_ms,
        "predicted_ms": predicted_ms,
        "predicted_speedup": dense_ms / predicted_ms,
        "kept_saliency": chosen.value,
    }
    keep = _keep(config, parts, chosen.picks)
    return plan.make(target.name, config, keep, {**target.model_dump(mode="json"), **predicted})


def total(config: TPruneConfig, costs: Costs) -> float:
    """Milliseconds of a whole model."""
    layers = sum(
        costs.sublayer(config.d_model, stack, name, shape)
        for stack in lines.STACKS
        for layer in lines.layer_shapes(config, stack)
        for name, shape in layer.items()
    )
    return costs.whole(costs.rest(config.d_model, config.output_size) + layers)


def _layer(
    config: TPruneConfig,
    stack: str,
    index: int,
    scores: Mapping[str, Tensor],
    costs: Costs,
    importance: Importance,
    grid: int,
) -> list[_Part]:
    found = []
    shape = lines.layer_shapes(config, stack)[index]
    reads = any(lines.is_there(layer["cross_attn"]) for layer in lines.layer_shapes(config, "decoder"))
    for unit, name in enumerate(lines.sublayers(shape)):
        where = f"{stack}.{index}.{name}"
        if name == "ffn":
            values, keeps, shapes = _widths(where, shape[name], scores, grid)
        else:
            values, keeps, shapes = _attentions(where, shape[name], scores, grid)
        measured = importance.sublayers.get(f"{stack}.{index}.sublayer")
        scale = 1.0 if measured is None else measured[unit] / max(values[0], 1e-30)
        # a decoder that reads the source goes on reading it; any other stack keeps something
        anchor = stack == "encoder" or name == "cross_attn" or not reads
        options = [
            Option(costs.sublayer(config.d_model, stack, name, one), value * scale, anchor=anchor)
            for one, value in zip(shapes, values, strict=True)
        ]
        gone = Option(0.0, 0.0, alive=False)
        found.append(_Part(unit, (*options, gone), (*keeps, None)))
    return found


def _widths(
    where: str, width: int, scores: Mapping[str, Tensor], grid: int
) -> tuple[list[float], list[Keep], list[Any]]:
    """Saliency, kept units and shape of every width of a feed-forward network, the widest first."""
    ranked, sums = _ranked(scores[where], 1)
    values: list[float] = []
    keeps: list[Keep] = []
    shapes: list[Any] = []
    for size in _on_grid(width, grid):
        values.append(float(sums[0, size]))
        keeps.append({} if size == width else {where: order.units(ranked[:, :size])})
        shapes.append(size)
    return values, keeps, shapes


def _attentions(
    where: str, shape: Mapping[str, Any], scores: Mapping[str, Tensor], grid: int
) -> tuple[list[float], list[Keep], list[Any]]:
    """Saliency, kept units and shape of every number of heads and widths of an attention, the largest first."""
    heads = shape["heads"]
    ranked = {kind: _ranked(scores[f"{where}.{kind}"], heads) for kind in ("qk", "vo")}
    # the heads that matter most stay
    by_rank = np.argsort(-sum(sums[:, -1] for _, sums in ranked.values()), kind="stable")
    values: list[float] = []
    keeps: list[Keep] = []
    shapes: list[Any] = []
    for count in range(heads, 0, -1):
        alive = np.sort(by_rank[:count])
        sums = {kind: own[alive].sum(axis=0) for kind, (_, own) in ranked.items()}
        for qk in _on_grid(shape["qk"], grid):
            for v in _on_grid(shape["v"], grid):
                keep: dict[str, tuple[int, ...]] = {}
                if count < heads:
                    keep[f"{where}.head"] = tuple(alive.tolist())
                for kind, size, whole in (("qk", qk, shape["qk"]), ("vo", v, shape["v"])):
                    if size < whole or count < heads:
                        keep[f"{where}.{kind}"] = order.units(ranked[kind][0][alive, :size])
                values.append(float(sums["qk"][qk] + sums["vo"][v]))
                keeps.append(keep)
                shapes.append({**shape, "heads": count, "qk": qk, "v": v})
    return values, keeps, shapes


def _ranked(score: Tensor, heads: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Units of every head, best first (heads, width), and the score of the k best (heads, width + 1)."""
    best_first, values = order.by_head(score, heads)
    return best_first, np.concatenate((np.zeros((heads, 1)), np.cumsum(values, axis=1)), axis=1)


def _on_grid(width: int, grid: int) -> list[int]:
    """The width itself, and all smaller ones on the grid."""
    return [width, *range((width - 1) // grid * grid, 0, -grid)]


def _gone(importance: Importance, stack: str, index: int, parts: Sequence[_Part]) -> float:
    """What a layer's loss is more than that of its sub-layers, as a value."""
    measured = importance.layers.get(f"{stack}.layer")
    if not measured:
        return 0.0
    return min(0.0, sum(part.options[0].value for part in parts) - measured[index])


def _keep(
    config: TPruneConfig, layers: Sequence[tuple[str, int, list[_Part]]], picks: Sequence[int]
) -> dict[str, tuple[int, ...]]:
    left = iter(picks)
    keep: dict[str, tuple[int, ...]] = {}
    alive: dict[str, list[int]] = {stack: [] for stack in lines.STACKS}
    for stack, index, parts in layers:
        found = [(part.unit, part.keeps[next(left)]) for part in parts]
        if found and all(kept is None for _, kept in found):
            continue
        alive[stack].append(index)
        there = tuple(unit for unit, kept in found if kept is not None)
        if len(there) < len(found):
            keep[f"{stack}.{index}.sublayer"] = there
        for _, kept in found:
            keep |= kept or {}
    for stack, indices in alive.items():
        if len(indices) < len(lines.layer_shapes(config, stack)):
            keep[f"{stack}.layer"] = tuple(indices)
    return keep


def _least(stacks: Sequence[Stack]) -> float:
    """The parts of the smallest layers that may be left."""
    groups = [group for stack in stacks for layer in stack.layers for group in layer.groups]
    least = sum(min(option.cost for option in group) for group in groups)
    for stack in stacks:
        if stack.needs_anchor:
            least += min(
                option.cost - min(other.cost for other in group)
                for layer in stack.layers
                for group in layer.groups
                for option in group
                if option.anchor
            )
    return least


def _impossible(target: Target, budget: float, least_ms: float, dense_ms: float) -> PlanError:
    return PlanError(
        "the budget cannot be met",
        where=f"target {target.name}",
        got=f"{budget:.3f} ms of the model's {dense_ms:.3f}",
        wanted=f"more than {least_ms:.3f} ms, {dense_ms / least_ms:.2f} times as fast",
        fix=f"{'lower the speedup or' if target.budget == 'speedup' else 'allow more time, lower'} the grid, "
        "or cut the vocabulary",
    )
