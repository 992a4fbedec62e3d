"""The multiple-choice knapsack: one option of every group, the greatest total value within a cost.

Exact by dynamic programming over costs in whole ticks. An option's cost is rounded up to ticks and the budget down, so
that a choice never exceeds the budget; with respect to the rounded costs no choice is better.

Groups lie in layers, and layers in stacks. A layer all of whose groups chose an option that is not `alive` has gone,
which may cost more value than its groups say one by one; a stack has to keep one option that is an `anchor`.

State of the program, besides the ticks spent: whether the layer is alive so far (bit 0), the stack anchored (bit 1).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tprune.errors import PlanError

ALIVE, ANCHORED, STATES = 1, 2, 4


@dataclass(frozen=True)
class Option:
    """One choice: what it costs, and what it keeps."""

    cost: float
    """At least 0."""
    value: float
    alive: bool = True
    """Whether its layer is still there with this option alone."""
    anchor: bool = False
    """Whether its stack may consist of this option alone."""

    @property
    def marks(self) -> int:
        """The bits of the state that it sets."""
        return ALIVE * self.alive | ANCHORED * self.anchor


@dataclass(frozen=True)
class Layer:
    """Groups that go together."""

    groups: tuple[tuple[Option, ...], ...]
    gone: float = 0.0
    """Value, usually negative, that is added when none of the chosen options is alive."""


@dataclass(frozen=True)
class Stack:
    """Layers of which something has to remain."""

    layers: tuple[Layer, ...]
    needs_anchor: bool = True


@dataclass(frozen=True)
class Choice:
    """An optimal choice."""

    picks: tuple[int, ...]
    """The option's index in every group, in order."""
    cost: float
    """True cost, not rounded."""
    value: float


def solve(stacks: Sequence[Stack], budget: float, tick: float) -> Choice:
    """The choice of greatest value within the budget; of equal ones the cheapest in ticks.

    Args:
        stacks: What is there to choose.
        budget: Greatest total cost.
        tick: Unit of cost that costs are rounded up to. Each group may waste one.

    Raises:
        PlanError: The cheapest choice, in ticks, is over the budget.
    """
    room = math.floor(budget / tick)
    value = np.full((STATES, max(room, 0) + 1), -np.inf)
    value[0, 0] = 0.0
    trace: list[tuple[NDArray[np.int32], NDArray[np.int8]]] = []
    for stack in stacks:
        for layer in stack.layers:
            for options in layer.groups:
                value, picked, before = _group(value, options, tick)
                trace.append((picked, before))
            value, before = _close_layer(value, layer.gone)
            trace.append((np.full(value.shape, -1, np.int32), before))
        value, before = _close_stack(value, stack.needs_anchor)
        trace.append((np.full(value.shape, -1, np.int32), before))
    best = int(value[0].argmax())
    if room < 0 or value[0, best] == -np.inf:
        raise PlanError("no choice is within the budget", got=f"{budget:g}", wanted="more than the cheapest choice")
    groups = [options for stack in stacks for layer in stack.layers for options in layer.groups]
    picks = _walk_back(trace, groups, best, tick)
    chosen = [options[pick] for options, pick in zip(groups, picks, strict=True)]
    return Choice(picks, sum(option.cost for option in chosen), float(value[0, best]))


def ticks(cost: float, tick: float) -> int:
    """A cost in whole ticks, rounded up."""
    return math.ceil(cost / tick)


def _group(
    value: NDArray[np.float64], options: Sequence[Option], tick: float
) -> tuple[NDArray[np.float64], NDArray[np.int32], NDArray[np.int8]]:
    """Values after a group, and for every state and cost the option picked and the state before."""
    length = value.shape[1]
    after = np.full_like(value, -np.inf)
    picked, before = np.full(value.shape, -1, np.int32), np.zeros(value.shape, np.int8)
    reachable = [state for state in range(STATES) if np.isfinite(value[state]).any()]
    for index in _undominated(options, tick):
        option, spent = options[index], ticks(options[index].cost, tick)
        if spent >= length:
            continue
        for state in reachable:
            into = state | option.marks
            found = value[state, : length - spent] + option.value
            better = found > after[into, spent:]
            after[into, spent:][better] = found[better]
            picked[into, spent:][better] = index
            before[into, spent:][better] = state
    return after, picked, before


def _undominated(options: Sequence[Option], tick: float) -> list[int]:
    """Without the options that another one beats: as good a mark, no dearer, and of as much value."""
    kept: list[int] = []
    best: dict[int, float] = {}
    for index in sorted(range(len(options)), key=lambda at: (ticks(options[at].cost, tick), -options[at].value, at)):
        option = options[index]
        if option.value > best.get(option.marks, -math.inf):
            best[option.marks] = option.value
            kept.append(index)
    return kept


def _close_layer(value: NDArray[np.float64], gone: float) -> tuple[NDArray[np.float64], NDArray[np.int8]]:
    """Forget whether the layer is alive, at the price of one that is not."""
    after, before = np.full_like(value, -np.inf), np.zeros(value.shape, np.int8)
    for anchored in (0, ANCHORED):
        dead, alive = value[anchored] + gone, value[anchored | ALIVE]
        after[anchored] = np.maximum(dead, alive)
        before[anchored] = np.where(alive >= dead, anchored | ALIVE, anchored)
    return after, before


def _close_stack(value: NDArray[np.float64], needs_anchor: bool) -> tuple[NDArray[np.float64], NDArray[np.int8]]:
    """Forget whether the stack is anchored, and everything that is not but has to be."""
    after, before = np.full_like(value, -np.inf), np.full(value.shape, ANCHORED, np.int8)
    after[0] = value[ANCHORED]
    if not needs_anchor:
        loose = value[0] > value[ANCHORED]
        after[0] = np.where(loose, value[0], after[0])
        before[0] = np.where(loose, 0, before[0])
    return after, before


def _walk_back(
    trace: Sequence[tuple[NDArray[np.int32], NDArray[np.int8]]],
    groups: Sequence[Sequence[Option]],
    spent: int,
    tick: float,
) -> tuple[int, ...]:
    picks: list[int] = []
    state = 0
    for picked, before in reversed(trace):
        pick = int(picked[state, spent])
        state = int(before[state, spent])
        if pick >= 0:
            picks.append(pick)
            spent -= ticks(groups[len(groups) - len(picks)][pick].cost, tick)
    return tuple(reversed(picks))
