"""OBS against brute force: every set of dropped columns with its own least-squares fit."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.sparsity.flowing import last_projection, seen
from tests.sparsity.small_models import Sentences, config, model_of
from tprune.sparsity import lines, obs, scores

Array = NDArray[np.float64]


def least_loss(inputs: Array, weights: Array, gone: list[int], damping: float) -> float:
    """Least mean of |(W' - W) x|^2 + damping / 2 * |W' - W|^2 over all W' whose columns `gone` are zero."""
    kept = [column for column in range(weights.shape[1]) if column not in gone]
    # rows that stand for the damping, as many as there are columns
    rows = np.concatenate([inputs / np.sqrt(len(inputs)), np.sqrt(damping / 2) * np.eye(weights.shape[1])])
    target = rows @ weights.T
    if not kept:
        return float((target**2).sum())
    fitted = np.linalg.lstsq(rows[:, kept], target, rcond=None)[0]
    return float(((rows[:, kept] @ fitted - target) ** 2).sum())


def greedy(inputs: Array, weights: Array, width: int) -> list[float]:
    """Costs by trying every unit that is left, again and again."""
    size = weights.shape[1] // width
    damping = 0.01 * float(np.mean(2 * (inputs**2).mean(axis=0)))
    costs, gone, before, highest = [0.0] * size, list[int](), 0.0, 0.0
    left = list(range(size))
    while left:
        after = {
            unit: least_loss(inputs, weights, [*gone, *range(unit * width, (unit + 1) * width)], damping)
            for unit in left
        }
        cheapest = min(left, key=lambda unit: after[unit])
        highest = max(highest, after[cheapest] - before)
        costs[cheapest], before = highest, after[cheapest]
        gone += range(cheapest * width, (cheapest + 1) * width)
        left.remove(cheapest)
    return costs


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 2), st.integers(2, 5), st.booleans())
def test_costs_are_the_loss_increase_of_the_quadratic(seed: int, width: int, units: int, alike: bool) -> None:
    draw = np.random.default_rng(seed)
    inputs = draw.normal(size=(40, units * width))
    if alike:  # units that can stand in for each other
        inputs = inputs @ draw.normal(size=(units * width, units * width))
    weights = draw.normal(size=(3, units * width))
    curvature = torch.from_numpy(2 / len(inputs) * inputs.T @ inputs)
    found = obs.removal_costs(curvature, torch.from_numpy(weights.T @ weights), width)
    assert found.tolist() == pytest.approx(greedy(inputs, weights, width), rel=1e-6, abs=1e-9)


def test_a_duplicate_costs_nothing_and_its_twin_what_both_carry() -> None:
    draw = np.random.default_rng(0)
    inputs = draw.normal(size=(50, 4))
    inputs[:, 3] = inputs[:, 1]
    weights = np.ones((2, 4))
    gram = torch.from_numpy(weights.T @ weights)
    found = obs.removal_costs(torch.from_numpy(2 / 50 * inputs.T @ inputs), gram)
    assert min(found[1], found[3]) < 0.05 * found[0]
    assert max(found[1], found[3]) > 2 * found[0]


def test_a_dead_layer_costs_nothing() -> None:
    assert obs.removal_costs(torch.zeros(3, 3).double(), torch.eye(3).double() * 0).tolist() == [0.0] * 3


def test_wide_layers_lose_several_units_with_each_update(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(obs, "STEPS", 4)
    draw = torch.randn(60, 10).double()
    weights = torch.randn(2, 10).double()
    curvature, gram = 2 / 60 * draw.T @ draw, weights.T @ weights
    found = obs.removal_costs(curvature, gram)
    alone = gram.diagonal() / (2 * torch.linalg.inv(obs.damped(curvature)).diagonal())
    first = alone.argsort()[:3]
    torch.testing.assert_close(found[first], alone[first])
    assert (alone > 0).all()
    assert (found >= found[first].min()).all() and (found >= found[first].max()).sum() == 10 - 2


SHAPES = config(d_model=12, heads=2, width=3, ffn=6, depth=1)


def test_the_moments_are_those_of_every_token_without_padding() -> None:
    model, pairs = model_of(SHAPES), Sentences.random(11)
    groups = lines.groups(SHAPES, (*lines.WIDTH_KINDS, "head"))
    found = scores.TEXT_SCORES["obs"](model, groups, pairs, 0)
    sentences = seen(model, pairs)
    for group in groups:
        if group.kind != "qk":
            name = last_projection(group)
            inputs = torch.cat([each[f"in:{name}"] for each in sentences]).double()
            weights = model.get_submodule(name.replace(".0.", ".layers.0.")).weight.detach().double()
            about_mean = (inputs - inputs.mean(dim=0)).numpy()  # what is constant, the bias takes
            wanted = greedy(about_mean, weights.numpy(), weights.shape[1] // group.size)
        else:
            place = group.name.removesuffix(".qk")
            keys = [each[f"out:{place}.k_proj"] for each in sentences]
            centered = torch.cat([each - each.mean(dim=0) for each in keys]).double().numpy()
            queries = torch.cat([each[f"out:{place}.q_proj"] for each in sentences]).double().numpy()
            wanted = []
            for head in (slice(0, 3), slice(3, 6)):  # the queries are the weights of the keys
                wanted += greedy(centered[:, head], queries[:, head] / np.sqrt(len(queries)), 1)
        assert found[group.name].tolist() == pytest.approx(wanted, rel=1e-3)
