"""The knapsack finds what trying everything finds, and never spends more than there is."""

import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tprune.errors import PlanError
from tprune.sparsity.knapsack import Layer, Option, Stack, solve

options = st.builds(
    Option,
    cost=st.integers(0, 40).map(lambda tenths: tenths / 10),
    value=st.integers(-5, 20).map(float),
    alive=st.booleans(),
    anchor=st.booleans(),
)
layers = st.builds(
    Layer,
    groups=st.lists(st.lists(options, min_size=1, max_size=4).map(tuple), max_size=3).map(tuple),
    gone=st.integers(-8, 3).map(float),
)
stacks = st.builds(Stack, layers=st.lists(layers, min_size=1, max_size=2).map(tuple), needs_anchor=st.booleans())


def tried(wanted: list[Stack], budget: float, tick: float) -> float | None:
    """The greatest value of all choices; None where none is allowed."""
    groups = [group for stack in wanted for layer in stack.layers for group in layer.groups]
    room, best = math.floor(budget / tick), None
    for picks in itertools.product(*groups):
        if sum(math.ceil(option.cost / tick) for option in picks) > room:
            continue
        left = iter(picks)
        value, allowed = 0.0, True
        for stack in wanted:
            anchored = False
            for layer in stack.layers:
                own = [next(left) for _ in layer.groups]
                value += sum(option.value for option in own)
                value += 0.0 if any(option.alive for option in own) else layer.gone
                anchored |= any(option.anchor for option in own)
            allowed &= anchored or not stack.needs_anchor
        if allowed and (best is None or value > best):
            best = value
    return best


@settings(max_examples=150, deadline=None)
@given(st.lists(stacks, min_size=1, max_size=2), st.integers(0, 120), st.sampled_from([0.1, 0.25, 1.0]))
def test_it_is_as_good_as_trying_everything(wanted: list[Stack], tenths: int, tick: float) -> None:
    budget = tenths / 10
    best = tried(wanted, budget, tick)
    if best is None:
        with pytest.raises(PlanError, match="no choice is within the budget"):
            solve(wanted, budget, tick)
        return
    found = solve(wanted, budget, tick)
    groups = [group for stack in wanted for layer in stack.layers for group in layer.groups]
    picked = [group[pick] for group, pick in zip(groups, found.picks, strict=True)]
    assert math.isclose(found.value, best, abs_tol=1e-9)
    assert found.cost == pytest.approx(sum(option.cost for option in picked))
    assert found.cost <= budget + 1e-9
    # the picks themselves are worth what is said
    alone = [
        Stack(tuple(Layer(tuple((next(left),) for _ in layer.groups), layer.gone) for layer in stack.layers), False)
        for left in [iter(picked)]
        for stack in wanted
    ]
    assert math.isclose(found.value, tried(alone, math.inf if tick == 0 else 1e6, tick) or 0.0, abs_tol=1e-9)


@settings(max_examples=60, deadline=None)
@given(st.lists(stacks, min_size=1, max_size=2), st.tuples(st.floats(0, 12), st.floats(0, 12)).map(sorted))
def test_more_room_is_never_worth_less(wanted: list[Stack], budgets: list[float]) -> None:
    values = []
    for budget in budgets:
        try:
            values.append(solve(wanted, budget, 0.1).value)
        except PlanError:
            values.append(-math.inf)
    assert values[0] <= values[1]


def test_of_equal_choices_the_cheaper_one_wins() -> None:
    group = (Option(2.0, 5.0), Option(1.0, 5.0), Option(1.0, 5.0))
    assert solve([Stack((Layer((group,)),), needs_anchor=False)], 10.0, 0.1).picks == (1,)


def test_a_group_may_have_more_options_than_sixteen_bits_count() -> None:
    group = (*[Option(1.0, 0.0)] * 70_000, Option(1.0, 1.0))
    assert solve([Stack((Layer((group,)),), needs_anchor=False)], 10.0, 1.0).picks == (70_000,)


def test_costs_are_rounded_up_and_the_budget_down() -> None:
    group = (Option(1.01, 1.0), Option(0.0, 0.0))
    assert solve([Stack((Layer((group,)),), needs_anchor=False)], 1.9, 1.0).picks == (1,)
