"""From scores and a budget to a plan.

Widths change in chunks of `grid` units, those of an attention in all its heads at once, since the
heads of one attention keep equal widths. No planner here empties a group: it leaves one chunk.
"""

import heapq
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from tprune.config import Target
from tprune.errors import BudgetError, InputError, PlanError
from tprune.model.shape import TPruneConfig
from tprune.sparsity import cost, gap, latency, lines, order, plan
from tprune.sparsity.latency import Costs, Importance
from tprune.sparsity.lines import Group
from tprune.sparsity.plan import Plan

WITHOUT_GAP = 0.1  # threshold, as a share of the mean norm, of a group whose norms have no gap


@dataclass
class Ladder:
    """One group's units, best first, and how many of them (per head) are still kept."""

    group: Group
    order: NDArray[np.int64]
    """(heads, width) units of every head, best first."""
    value: NDArray[np.float64]
    """(width,) score of the k-th best unit, summed over the heads."""
    grid: int
    keep: int = field(init=False)

    def __post_init__(self) -> None:
        self.keep = self.width

    @property
    def width(self) -> int:
        """Units of one head (of the group when it has no heads)."""
        return int(self.order.shape[1])

    @property
    def smaller(self) -> int:
        """The next smaller width on the grid; the same width when there is none."""
        return max((self.keep - 1) // self.grid * self.grid, min(self.grid, self.keep))

    def units(self) -> tuple[int, ...]:
        """The kept units, rising."""
        return order.units(self.order[:, : self.keep])


def make(
    config: TPruneConfig,
    target: Target,
    scores: Mapping[str, Tensor],
    *,
    importance: Importance | None = None,
    costs: Costs | None = None,
    whole: TPruneConfig | None = None,
) -> Plan:
    """Plan what to keep.

    Args:
        config: The model's configuration.
        target: Planner, budget, threshold, grid and layers to drop.
        scores: (size,) by group name, for the ffn, qk and vo groups; squared norms for `threshold`.
        importance: What BSSL measured of whole layers and sub-layers. Of layers to drop the least important go;
            without a measurement the middle ones.
        costs: Predicted milliseconds (latency).
        whole: What a speedup is over: the model before anything was cut; None: this model (latency).

    Raises:
        BudgetError: The budget is below what the smallest model costs.
        PlanError: No layer would be left, or no model is as quick as wanted (latency).
        InputError: The planner latency without costs.
    """
    keep = _layers_to_keep(config, target, importance.layers if importance else {})
    if target.planner == "latency":
        if costs is None:
            raise InputError(
                "this planner needs a latency table",
                where=f"target {target.name}",
                got="planner latency without a table",
                fix="fill one with `tprune table` and give it",
            )
        return latency.make(config, target, scores, costs, importance, whole=whole, layers=keep)
    skeleton = plan.make(target.name, config, keep, {})
    ladders = [_ladder(group, scores[group.name], target.grid) for group in _alive(config, skeleton)]
    PLANNERS[target.planner](config, target, skeleton, ladders, scores)
    return _finish(config, target, skeleton, ladders)


def threshold(
    config: TPruneConfig, target: Target, skeleton: Plan, ladders: Sequence[Ladder], scores: Mapping[str, Tensor]
) -> None:
    """The paper's way: units under a share of their group's mean norm, or under the gap, go.

    The fullest head sets the width.
    """
    for ladder in ladders:
        norms = scores[ladder.group.name].double().clamp_min(0).sqrt().numpy()
        share = WITHOUT_GAP if target.threshold == "gap" else target.threshold
        under = gap.threshold(norms) if target.threshold == "gap" else None
        alive = (norms >= (share * norms.mean() if under is None else under)).reshape(ladder.order.shape)
        wanted = max(1, int(alive.sum(axis=1).max()))
        ladder.keep = min(ladder.width, -(-wanted // ladder.grid) * ladder.grid)


def uniform(
    config: TPruneConfig, target: Target, skeleton: Plan, ladders: Sequence[Ladder], scores: Mapping[str, Tensor]
) -> None:
    """The same share of every group, the largest that meets the budget."""
    steps = 1000
    low, high = 0, steps
    while low < high:  # the largest share whose cost is within the budget
        middle = (low + high + 1) // 2
        _set_share(ladders, middle / steps)
        low, high = (middle, high) if _share(config, target, skeleton, ladders) <= target.keep else (low, middle - 1)
    _set_share(ladders, low / steps)
    _require_budget(config, target, skeleton, ladders)


def cheapest_first(
    config: TPruneConfig, target: Target, skeleton: Plan, ladders: Sequence[Ladder], scores: Mapping[str, Tensor]
) -> None:
    """Global: take the chunk with the least score per cost away, wherever it is, until the budget is met."""
    budget = target.keep * cost.total(config, target.budget)
    shapes = plan.pruned_shapes(config, skeleton)
    left = cost.total(config, target.budget, shapes)
    unit_cost = {ladder.group.name: _unit_cost(config, target.budget, ladder.group) for ladder in ladders}

    def move(index: int) -> tuple[float, int, int]:
        ladder = ladders[index]
        lost = ladder.value[ladder.smaller : ladder.keep].sum()
        saved = unit_cost[ladder.group.name] * (ladder.keep - ladder.smaller) * ladder.group.heads
        return lost / saved, index, ladder.smaller

    heap = [move(index) for index, ladder in enumerate(ladders) if ladder.smaller < ladder.keep]
    heapq.heapify(heap)
    while left > budget and heap:
        _, index, smaller = heapq.heappop(heap)
        ladder = ladders[index]
        left -= int(unit_cost[ladder.group.name] * (ladder.keep - smaller) * ladder.group.heads)
        ladder.keep = smaller
        if ladder.smaller < ladder.keep:
            heapq.heappush(heap, move(index))
    _require_budget(config, target, skeleton, ladders)


def _ladder(group: Group, score: Tensor, grid: int) -> Ladder:
    best_first, values = order.by_head(score, group.heads)
    return Ladder(group, best_first, values.sum(axis=0), grid)


def _alive(config: TPruneConfig, skeleton: Plan) -> Iterator[Group]:
    by_name = {group.name: group for group in lines.groups(config)}
    for group in lines.groups(config, lines.WIDTH_KINDS):
        stack, layer, *_ = group.name.split(".")
        if int(layer) in plan.kept(skeleton, by_name[f"{stack}.layer"]):
            yield group


def _unit_cost(config: TPruneConfig, quantity: str, group: Group) -> float:
    """Cost of one unit: the marginal cost of one width in one head, linear in the width."""
    stack, layer, name, *kind = group.name.split(".")
    shape: Any = lines.layer_shapes(config, stack)[int(layer)][name]
    whole = cost.sublayer(quantity, config.d_model, stack, name, shape)
    if not kind:
        return whole - cost.sublayer(quantity, config.d_model, stack, name, shape - 1) if shape > 1 else 0.0
    key = {"qk": "qk", "vo": "v"}[kind[0]]
    less = {**shape, key: shape[key] - 1}
    heads: int = shape["heads"]
    return (whole - cost.sublayer(quantity, config.d_model, stack, name, less)) / heads


def _layers_to_keep(
    config: TPruneConfig, target: Target, importance: Mapping[str, Sequence[float]]
) -> dict[str, tuple[int, ...]]:
    keep = {}
    for stack, drop in (("encoder", target.drop_encoder_layers), ("decoder", target.drop_decoder_layers)):
        depth = len(lines.layer_shapes(config, stack))
        if drop >= depth:
            raise PlanError(
                f"no {stack} layer would be left",
                where=f"target {target.name}",
                got=f"drop {drop}",
                wanted=f"at most {depth - 1} of {depth}",
                fix=f"drop fewer {stack} layers",
            )
        if drop:
            # without a measurement: outer layers matter most, so the middle ones go first
            middle = [-abs(index - (depth - 1) / 2) for index in range(depth)]
            value = importance.get(f"{stack}.layer") or [-entry for entry in middle]
            worst_first = sorted(range(depth), key=lambda index: (value[index], -index))
            if vital := [index for index in worst_first if _is_vital(config, stack, index)]:
                worst_first.remove(vital[-1])
            gone = set(worst_first[:drop])
            keep[f"{stack}.layer"] = tuple(index for index in range(depth) if index not in gone)
    return keep


def _is_vital(config: TPruneConfig, stack: str, index: int) -> bool:
    """Whether the stack can work with this layer alone: a decoder's reads the source, an encoder's has a sub-layer."""
    layer = lines.layer_shapes(config, stack)[index]
    return lines.is_there(layer["cross_attn"]) if stack == "decoder" else any(map(lines.is_there, layer.values()))


def _set_share(ladders: Sequence[Ladder], share: float) -> None:
    for ladder in ladders:
        ladder.keep = lines.width_of_share(ladder.width, share, ladder.grid)


def _finish(config: TPruneConfig, target: Target, skeleton: Plan, ladders: Sequence[Ladder]) -> Plan:
    widths = {ladder.group.name: ladder.units() for ladder in ladders if ladder.keep < ladder.width}
    return plan.make(target.name, config, {**skeleton.keep, **widths}, target.model_dump(mode="json"))


def _share(config: TPruneConfig, target: Target, skeleton: Plan, ladders: Sequence[Ladder]) -> float:
    return _cost(config, target, skeleton, ladders) / cost.total(config, target.budget)


def _cost(config: TPruneConfig, target: Target, skeleton: Plan, ladders: Sequence[Ladder]) -> int:
    shapes = plan.pruned_shapes(config, _finish(config, target, skeleton, ladders))
    return cost.total(config, target.budget, shapes)


def _require_budget(config: TPruneConfig, target: Target, skeleton: Plan, ladders: Sequence[Ladder]) -> None:
    share = _share(config, target, skeleton, ladders)
    if share > target.keep:
        raise BudgetError(
            "the budget cannot be met",
            least=_cost(config, target, skeleton, ladders),
            where=f"target {target.name}",
            got=f"keep = {target.keep} of the {target.budget}",
            wanted=f"at least {math.ceil(share * 1000) / 1000:.3f}",
            fix="raise keep, lower grid, or drop layers",
        )


PLANNERS = {"threshold": threshold, "uniform": uniform, "global": cheapest_first}
"""Those that choose widths alone; `latency` chooses sub-layers and layers too."""
