"""Plans that meet their budget, keep the best units, and never empty a group."""

import itertools
import math
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.sparsity.small_models import attention, config, configs
from tprune.config import Target
from tprune.errors import PlanError
from tprune.model.shape import TPruneConfig
from tprune.sparsity import cost, lines, plan, planner
from tprune.sparsity.latency import Importance
from tprune.sparsity.plan import Plan

SHAPES = config(heads=2, width=8, ffn=20, depth=2)


def target(**values: Any) -> Target:
    return Target(**({"name": "t", "grid": 4} | values))


def random_scores(shapes: TPruneConfig, seed: int = 0) -> dict[str, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    return {group.name: torch.rand(group.size, generator=draw) for group in lines.groups(shapes, lines.WIDTH_KINDS)}


def share(shapes: TPruneConfig, chosen: Plan, quantity: str) -> float:
    return cost.total(shapes, quantity, plan.pruned_shapes(shapes, chosen)) / cost.total(shapes, quantity)


def widths(shapes: TPruneConfig, chosen: Plan) -> dict[str, tuple[int, int]]:
    """Kept and old width of every group, per head."""
    old = {"encoder": shapes.encoder_shapes or [], "decoder": shapes.decoder_shapes or []}
    new = plan.pruned_shapes(shapes, chosen)
    found = {}
    for stack, layers in old.items():
        kept = chosen.keep.get(f"{stack}.layer", tuple(range(len(layers))))
        for place, index in enumerate(kept):
            for name, part in layers[index].items():
                smaller = new[stack][place][name]
                if isinstance(part, dict):
                    if part["heads"]:
                        assert smaller["heads"] == part["heads"]
                        found[f"{stack}.{index}.{name}.qk"] = (smaller["qk"], part["qk"])
                        found[f"{stack}.{index}.{name}.vo"] = (smaller["v"], part["v"])
                elif part:
                    found[f"{stack}.{index}.{name}"] = (smaller, part)
    return found


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    configs(),
    st.sampled_from(["uniform", "global"]),
    st.sampled_from(["parameters", "flops"]),
    st.sampled_from([1, 2, 4]),
    st.tuples(st.floats(0.05, 1), st.floats(0.05, 1)).map(sorted),
    st.integers(0, 3),
)
def test_budgets_are_met_and_monotone_on_the_grid(
    shapes: TPruneConfig, how: str, budget: str, grid: int, keeps: list[float], seed: int
) -> None:
    scores, shares = random_scores(shapes, seed), []
    for keep in keeps:
        wanted = target(planner=how, budget=budget, grid=grid, keep=keep)
        try:
            chosen = planner.make(shapes, wanted, scores)
        except PlanError as error:
            assert "the budget cannot be met" in str(error)
            shares.append(0.0)
            continue
        plan.check(chosen, shapes)
        shares.append(share(shapes, chosen, budget))
        assert shares[-1] <= keep
        for kept, old in widths(shapes, chosen).values():
            assert 1 <= kept <= old
            assert kept == old or kept % grid == 0
        assert planner.make(shapes, wanted, scores) == chosen
    assert shares == sorted(shares)


@pytest.mark.parametrize("how", ["uniform", "global"])
@pytest.mark.parametrize("width", [8, 9, 5, 20])
def test_a_budget_of_one_keeps_everything(how: str, width: int) -> None:
    shapes = config(heads=2, width=width, ffn=2 * width + 1)
    assert planner.make(shapes, target(planner=how, keep=1.0, grid=8), random_scores(shapes)).keep == {}


@pytest.mark.parametrize("how", ["uniform", "global", "threshold"])
def test_the_best_units_of_every_head_are_kept(how: str) -> None:
    scores = random_scores(SHAPES)
    chosen = planner.make(SHAPES, target(planner=how, keep=0.8, threshold=0.95), scores)
    assert chosen.keep
    for group in lines.groups(SHAPES, lines.WIDTH_KINDS):
        kept = set(plan.kept(chosen, group))
        for head in range(group.heads):
            units = range(head * group.size // group.heads, (head + 1) * group.size // group.heads)
            values = scores[group.name].tolist()
            lost = [values[unit] for unit in units if unit not in kept]
            assert min(values[unit] for unit in units if unit in kept) >= max(lost, default=0)


@pytest.mark.parametrize("how", ["uniform", "global", "threshold"])
def test_ties_keep_the_lower_unit(how: str) -> None:
    scores = {name: torch.ones_like(tensor) for name, tensor in random_scores(SHAPES).items()}
    if how == "threshold":
        scores = {name: (torch.arange(len(tensor)) % 2).float() for name, tensor in scores.items()}
    chosen = planner.make(SHAPES, target(planner=how, keep=0.8), scores)
    assert planner.make(SHAPES, target(planner=how, keep=0.8), scores) == chosen
    assert chosen.keep
    if how == "threshold":  # ten odd units, rounded up to the grid of 4
        assert chosen.keep["encoder.0.ffn"] == tuple(sorted((0, 2, *range(1, 20, 2))))
        return
    for group in lines.groups(SHAPES, lines.WIDTH_KINDS):
        width, kept = group.size // group.heads, plan.kept(chosen, group)
        count = len(kept) // group.heads
        assert kept == tuple(head * width + unit for head in range(group.heads) for unit in range(count))


def test_uniform_takes_the_same_share_everywhere() -> None:
    chosen = planner.make(SHAPES, target(planner="uniform", keep=0.7, grid=1), random_scores(SHAPES))
    shares = [kept / old for kept, old in widths(SHAPES, chosen).values()]
    assert max(shares) - min(shares) <= 0.5 / 8 + 0.5 / 20
    assert 0.6 < share(SHAPES, chosen, "flops") <= 0.7


# only feed-forwards can shrink here: attentions of width 1 have nothing to give
FLAT = TPruneConfig(
    vocab_size=11,
    d_model=8,
    encoder_shapes=[{"self_attn": attention(1, 1, 1), "ffn": 6}],
    decoder_shapes=[{"self_attn": attention(1, 1, 1), "cross_attn": attention(1, 1, 1), "ffn": 6} for _ in range(2)],
)
FFN = ("encoder.0.ffn", "decoder.0.ffn", "decoder.1.ffn")


@pytest.mark.parametrize("grid", [1, 2, 3])
@pytest.mark.parametrize("removed", [0, 1, 5, 9])
def test_global_finds_the_best_plan_of_all_when_units_cost_the_same(grid: int, removed: int) -> None:
    scores = random_scores(FLAT)
    dense = cost.total(FLAT, "parameters")
    keep = (dense - removed * (2 * 8 + 1)) / dense
    chosen = planner.make(FLAT, target(planner="global", budget="parameters", grid=grid, keep=keep), scores)
    found = sum(scores[name][list(chosen.keep.get(name, range(6)))].sum().item() for name in FFN)
    best = 0.0
    for chunks in itertools.product(range(1, 6 // grid + 1), repeat=3):
        if 18 - sum(chunks) * grid >= removed:
            kept = (scores[name].topk(count * grid).values for name, count in zip(FFN, chunks, strict=True))
            best = max(best, sum(values.sum().item() for values in kept))
    assert found == pytest.approx(best, rel=1e-6)


def test_global_prefers_what_saves_more_at_equal_score() -> None:
    """An encoder unit costs 20 tokens of FLOPs, a decoder unit 25: the decoder goes first."""
    scores = {name: torch.ones_like(tensor) for name, tensor in random_scores(FLAT).items()}
    chosen = planner.make(FLAT, target(planner="global", budget="flops", grid=1, keep=0.85), scores)
    assert len(chosen.keep["decoder.0.ffn"]) < 6
    assert "encoder.0.ffn" not in chosen.keep
    chosen = planner.make(FLAT, target(planner="global", budget="parameters", grid=1, keep=0.98), scores)
    assert len(chosen.keep["encoder.0.ffn"]) < 6


def test_threshold_by_hand() -> None:
    shapes = TPruneConfig(
        vocab_size=11,
        d_model=8,
        encoder_shapes=[{"self_attn": attention(2, 4, 2), "ffn": 6}],
        decoder_shapes=[{"self_attn": attention(1, 1, 1), "cross_attn": attention(1, 1, 1), "ffn": 2}],
    )
    scores = random_scores(shapes)
    # norms 10 0 9 0 8 1: mean 28/6, half of it 2.33: units 0, 2 and 4 stay
    scores["encoder.0.ffn"] = torch.tensor([10.0, 0, 9, 0, 8, 1]) ** 2
    # norms by head 4 4 0 1 | 1 4 4 4: mean 22/8, half of it 1.375: two stay in head 0, three in head 1,
    # so both keep their best three
    scores["encoder.0.self_attn.qk"] = torch.tensor([4.0, 4, 0, 1, 1, 4, 4, 4]) ** 2
    # norms equal: all stay
    scores["encoder.0.self_attn.vo"] = torch.full((4,), 9.0)
    scores["decoder.0.ffn"] = torch.tensor([0.0, 0.0])  # nothing is below half of nothing
    wanted = target(planner="threshold", threshold=0.5, grid=1)
    assert planner.make(shapes, wanted, scores).keep == {
        "encoder.0.ffn": (0, 2, 4),
        "encoder.0.self_attn.qk": (0, 1, 3, 5, 6, 7),
    }
    on_grid = planner.make(shapes, wanted.model_copy(update={"grid": 2}), scores)
    assert on_grid.keep == {"encoder.0.ffn": (0, 2, 4, 5)}
    assert planner.make(shapes, wanted.model_copy(update={"threshold": 0.0}), scores).keep == {}


def test_how_a_plan_was_made_is_recorded() -> None:
    wanted = target(planner="uniform", keep=0.7)
    assert planner.make(SHAPES, wanted, random_scores(SHAPES)).how == wanted.model_dump(mode="json")


@pytest.mark.parametrize("how", ["uniform", "global"])
def test_an_impossible_budget_names_the_possible_one(how: str) -> None:
    scores = random_scores(SHAPES)
    with pytest.raises(PlanError) as caught:
        planner.make(SHAPES, target(planner=how, keep=0.1, budget="flops"), scores)
    least: dict[str, list[Any]] = {"encoder": [], "decoder": []}
    one = attention(2, 4, 4)
    for _ in range(2):
        least["encoder"].append({"self_attn": one, "ffn": 4})
        least["decoder"].append({"self_attn": one, "cross_attn": one, "ffn": 4})
    possible = math.ceil(1000 * cost.total(SHAPES, "flops", least) / cost.total(SHAPES, "flops")) / 1000
    assert str(caught.value) == (
        "target t: the budget cannot be met · got keep = 0.1 of the flops · "
        f"wanted at least {possible:.3f} · raise keep, lower grid, or drop layers"
    )
    named = float(str(caught.value).split("at least ")[1].split()[0])
    assert planner.make(SHAPES, target(planner=how, keep=named, budget="flops"), scores)


@pytest.mark.parametrize("how", ["uniform", "global", "threshold"])
def test_the_least_important_layers_go(how: str) -> None:
    shapes = config(depth=4)
    wanted = target(planner=how, keep=0.9, drop_encoder_layers=2, drop_decoder_layers=1)
    importance = {"encoder.layer": [0.3, 0.1, 0.2, 0.4], "decoder.layer": [0.0, -0.1, 0.5, -0.1]}
    chosen = planner.make(shapes, wanted, random_scores(shapes), importance=Importance(layers=importance))
    assert chosen.keep["encoder.layer"] == (0, 3)
    assert chosen.keep["decoder.layer"] == (0, 1, 2)  # of equal layers the later one goes
    assert not [name for name in chosen.keep if name.startswith(("encoder.1", "encoder.2", "decoder.3"))]
    assert share(shapes, chosen, "flops") <= 0.9


def test_without_a_measurement_the_middle_layers_go() -> None:
    shapes = config(depth=4)
    chosen = planner.make(shapes, target(planner="threshold", drop_decoder_layers=2), random_scores(shapes))
    assert chosen.keep["decoder.layer"] == (0, 3)
    assert "encoder.layer" not in chosen.keep


def test_dropping_all_layers_is_refused() -> None:
    with pytest.raises(PlanError) as caught:
        planner.make(SHAPES, target(drop_decoder_layers=2), random_scores(SHAPES))
    assert str(caught.value) == (
        "target t: no decoder layer would be left · got drop 2 · wanted at most 1 of 2 · drop fewer decoder layers"
    )


@pytest.mark.parametrize("how", ["uniform", "global"])
@pytest.mark.parametrize("reader", [0, 1, 2])
def test_the_last_layer_that_reads_the_source_is_not_dropped(how: str, reader: int) -> None:
    shapes = config(heads=2, width=8, ffn=20, depth=3)
    layers = [{**layer, "cross_attn": attention(0, 8, 8)} for layer in shapes.decoder_shapes or []]
    layers[reader] = (shapes.decoder_shapes or [])[reader]
    shapes.decoder_shapes = layers
    for least in range(3):
        value = [2.0 if index != least else 1.0 for index in range(3)]
        for number in (1, 2):
            wish = target(planner=how, keep=0.9, drop_decoder_layers=number)
            parts = Importance({}, {"decoder.layer": value})
            chosen = planner.make(shapes, wish, random_scores(shapes), importance=parts)
            assert reader in chosen.keep["decoder.layer"]
            assert len(chosen.keep["decoder.layer"]) == 3 - number
