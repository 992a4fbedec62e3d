"""The gap between dead and living units: found where it is clear, not invented where there is none."""

from random import Random

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.sparsity.small_models import config
from tprune.config import Target
from tprune.sparsity import gap, lines, plan, planner


@given(
    st.lists(st.floats(0.7, 1.4), min_size=10, max_size=20),
    st.lists(st.floats(1, 1.5), min_size=1, max_size=20),
    st.one_of(st.just(0.0), st.floats(1e-6, 0.04)),
    st.floats(1e-3, 1e3),
    st.randoms(use_true_random=False),
)
def test_a_clear_gap_parts_the_dead_from_the_living(
    alive: list[float], withered: list[float], size: float, scale: float, chance: Random
) -> None:
    dead = [size * share for share in withered]
    norms = [*alive, *dead]
    chance.shuffle(norms)
    found = gap.threshold(scale * np.array(norms))
    assert found is not None
    assert scale * max(dead) < found < scale * min(alive)


@pytest.mark.parametrize(
    "norms",
    [
        pytest.param([1.0, 1.1, 0.9, 1.3, 0.7], id="a hump"),
        pytest.param([0.3, 0.4, 0.5, 0.6, 0.7, 0.8], id="a slope"),
        pytest.param([1.0, 1.0, 1.0, 1.0, 12.0], id="one giant: the others are not dead"),
        pytest.param([1.0, 1.0], id="equal"),
        pytest.param([1.0], id="alone"),
        pytest.param([0.0, 0.0, 0.0], id="nothing there"),
    ],
)
def test_no_gap_no_threshold(norms: list[float]) -> None:
    assert gap.threshold(np.array(norms)) is None


def test_the_threshold_lies_in_the_middle_of_the_widest_gap() -> None:
    # ratios 2.5, 20 and 1.2: the second is the widest
    assert gap.threshold(np.array([0.02, 0.05, 1.0, 1.2])) == pytest.approx((0.05 * 1.0) ** 0.5)
    # the dead are dead alike: 1e-9 against 1e-4 is no gap, 1e-3 of the mean against 1 is
    assert gap.threshold(np.array([1e-9, 1e-4, 1.0, 1.0])) == pytest.approx((1e-3 * (2 + 1e-4 + 1e-9) / 4) ** 0.5)


def test_the_planner_cuts_at_the_gap_and_else_at_its_share() -> None:
    shapes = config(heads=2, width=8, ffn=20, depth=1)
    scores = {}
    for group in lines.groups(shapes, lines.WIDTH_KINDS):
        norms = torch.linspace(0.5, 1.5, group.size)
        if group.kind == "ffn":  # a gap far above a tenth of the mean
            norms[:12] = 0.15
        scores[group.name] = norms.square()
    chosen = planner.make(shapes, Target(name="t", planner="threshold", threshold="gap", grid=1), scores)
    assert {name: units for name, units in chosen.keep.items() if not name.endswith("ffn")} == {}
    assert chosen.keep["encoder.0.ffn"] == tuple(range(12, 20))
    fixed = planner.make(shapes, Target(name="t", planner="threshold", threshold=0.1, grid=1), scores)
    assert fixed.keep == {}
    for name, score in [*scores.items()]:  # no gap anywhere: as with a tenth of the mean
        norms = torch.linspace(0.01, 1.5, len(score)).clamp_min(0.4)
        norms[:5] = torch.tensor([0.09, 0.15, 0.25, 0.3, 0.35]) * norms.mean()
        scores[name] = norms.square()
    assert all(gap.threshold(score.sqrt().double().numpy()) is None for score in scores.values())
    by_norm = {"name": "t", "planner": "threshold", "grid": 1}
    keeps = [
        plan.pruned_shapes(shapes, planner.make(shapes, Target.model_validate({**by_norm, "threshold": share}), scores))
        for share in ("gap", planner.WITHOUT_GAP)
    ]
    assert keeps[0] == keeps[1] != plan.pruned_shapes(shapes, plan.make("all", shapes, {}, {}))
