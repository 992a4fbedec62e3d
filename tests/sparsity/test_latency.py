"""The latency-aware planner: within the time, as good as trying everything, and its plans fit."""

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.sparsity.small_models import attention, config, configs, model_of
from tprune.config import Target
from tprune.errors import InputError, PlanError
from tprune.model.shape import TPruneConfig
from tprune.sparsity import latency, lines, plan, planner, surgery
from tprune.sparsity.latency import Importance


class Linear:
    """A fixed price a sub-layer and a head, and one for every width."""

    def sublayer(self, d_model: int, stack: str, name: str, shape: Any) -> float:
        if isinstance(shape, Mapping):
            heads: int = shape["heads"]
            return 1.0 + heads * (0.3 + 0.05 * (shape["qk"] + shape["v"])) if heads else 0.0
        return 0.8 + 0.02 * shape if shape else 0.0

    def rest(self, d_model: int, vocabulary: int) -> float:
        return 0.5 + 0.1 * vocabulary

    def whole(self, parts_ms: float) -> float:
        return parts_ms

    def parts(self, whole_ms: float) -> float:
        return whole_ms


def target(**values: Any) -> Target:
    given = {"name": "t", "grid": 4, "planner": "latency", "budget": "speedup", "amount": 2.0, "table": "t"}
    return Target(**(given | values))


def random_scores(shapes: TPruneConfig, seed: int = 0) -> dict[str, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    return {group.name: torch.rand(group.size, generator=draw) for group in lines.groups(shapes, lines.WIDTH_KINDS)}


def spent(shapes: TPruneConfig, chosen: plan.Plan) -> float:
    """Time of what the plan leaves, from the pruned model's own shapes."""
    left = plan.pruned_shapes(shapes, chosen)
    rest = Linear().rest(0, shapes.target_vocab_size or shapes.vocab_size)
    layers = [layer for stack in left.values() for layer in stack]
    return rest + sum(Linear().sublayer(0, "", name, one) for layer in layers for name, one in layer.items())


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(configs(), st.floats(1.0, 3.0), st.sampled_from([1, 2, 4]), st.integers(0, 3))
def test_plans_fit_and_are_within_the_time(shapes: TPruneConfig, speedup: float, grid: int, seed: int) -> None:
    whole = latency.total(shapes, Linear())
    try:
        chosen = planner.make(shapes, target(amount=speedup, grid=grid), random_scores(shapes, seed), costs=Linear())
    except PlanError as error:
        assert "the budget cannot be met" in str(error)
        return
    plan.check(chosen, shapes)
    assert chosen.how["dense_ms"] == pytest.approx(whole)
    assert chosen.how["predicted_ms"] == pytest.approx(spent(shapes, chosen))
    assert spent(shapes, chosen) <= whole / speedup + 1e-9
    had_cross = any(layer["cross_attn"]["heads"] for layer in shapes.decoder_shapes or [])
    left = plan.pruned_shapes(shapes, chosen)
    assert any(layer["cross_attn"]["heads"] for layer in left["decoder"]) or not had_cross


def test_a_speedup_is_over_the_model_before_anything_was_cut() -> None:
    whole, trimmed = config(ffn=24, depth=2), config(ffn=16, depth=2)
    dense_ms, scores = latency.total(whole, Linear()), random_scores(trimmed)
    assert latency.total(trimmed, Linear()) < dense_ms
    over_dense, over_itself = (
        planner.make(trimmed, target(amount=1.2), scores, costs=Linear(), whole=known) for known in (whole, None)
    )
    assert over_dense.how["dense_ms"] == pytest.approx(dense_ms)
    assert spent(trimmed, over_itself) < spent(trimmed, over_dense) <= dense_ms / 1.2


def test_the_plan_is_pruned_to_what_was_predicted() -> None:
    shapes = config(heads=2, width=8, ffn=20, depth=2)
    chosen = planner.make(shapes, target(amount=2.5), random_scores(shapes), costs=Linear())
    smaller = surgery.prune(model_of(shapes), chosen)
    assert latency.total(smaller.config, Linear()) == pytest.approx(chosen.how["predicted_ms"])


def every_choice(shapes: TPruneConfig, scores: Mapping[str, Tensor], grid: int) -> Iterator[tuple[float, float]]:
    """Time and saliency of every way to prune a model of one layer a stack, by hand."""
    parts = []
    for stack, layers in (("encoder", shapes.encoder_shapes or []), ("decoder", shapes.decoder_shapes or [])):
        for index, layer in enumerate(layers):
            for name, shape in layer.items():
                where, found = f"{stack}.{index}.{name}", [(0.0, 0.0, False)]
                anchor = stack == "encoder" or name == "cross_attn"
                if name == "ffn":
                    best = scores[where].sort(descending=True).values.double()
                    for width in {shape, *range(grid, shape, grid)}:
                        found.append((0.8 + 0.02 * width, float(best[:width].sum()), anchor))
                    parts.append((stack, found))
                    continue
                by_head = {kind: scores[f"{where}.{kind}"].view(shape["heads"], -1) for kind in ("qk", "vo")}
                worth = sum(value.sum(dim=1) for value in by_head.values())
                assert isinstance(worth, Tensor)
                for count in range(1, shape["heads"] + 1):
                    alive = worth.topk(count).indices
                    for qk in {shape["qk"], *range(grid, shape["qk"], grid)}:
                        for v in {shape["v"], *range(grid, shape["v"], grid)}:
                            kept = sum(
                                float(by_head[kind][alive].topk(width, dim=1).values.double().sum())
                                for kind, width in (("qk", qk), ("vo", v))
                            )
                            found.append((1.0 + count * (0.3 + 0.05 * (qk + v)), kept, anchor))
                parts.append((stack, found))
    rest = 0.5 + 0.1 * (shapes.target_vocab_size or shapes.vocab_size)
    for picks in itertools.product(*(found for _, found in parts)):
        anchored = {stack for (stack, _), pick in zip(parts, picks, strict=True) if pick[2]}
        if anchored == {"encoder", "decoder"}:
            yield rest + sum(pick[0] for pick in picks), sum(pick[1] for pick in picks)


@pytest.mark.parametrize("speedup", [1.3, 1.7, 2.2])
def test_no_other_plan_keeps_more_in_the_same_time(speedup: float) -> None:
    shapes = config(heads=2, width=4, ffn=6, depth=1)
    scores = random_scores(shapes, seed=int(10 * speedup))
    chosen = planner.make(shapes, target(amount=speedup, grid=2), scores, costs=Linear())
    dense = latency.total(shapes, Linear())
    # whole ticks: a choice that fits with a tick a part to spare has been seen
    spare = 6 * dense / latency.TICKS
    best = max(kept for time, kept in every_choice(shapes, scores, 2) if time <= dense / speedup - spare)
    assert chosen.how["kept_saliency"] >= best - 1e-6


def test_saliency_is_bssls_loss_of_the_sublayer_shared_by_the_scores() -> None:
    shapes = config(heads=1, width=4, ffn=8, depth=2)
    scores = {name: torch.ones_like(score) for name, score in random_scores(shapes).items()}
    importance = Importance(
        sublayers={
            "encoder.0.sublayer": [0.5, 0.001],
            "encoder.1.sublayer": [0.002, 0.6],
            "decoder.0.sublayer": [0.4, 0.3, 0.2],
            "decoder.1.sublayer": [0.001, 0.002, 0.001],
        },
        layers={"encoder.layer": [0.6, 0.7], "decoder.layer": [3.0, 0.1]},
    )
    chosen = planner.make(shapes, target(amount=1.6), scores, importance=importance, costs=Linear())
    assert chosen.keep["decoder.layer"] == (0,)
    assert chosen.keep["encoder.0.sublayer"] == (0,)
    assert chosen.keep["encoder.1.sublayer"] == (1,)
    # the layer's loss of 0.1 is counted, of which its sub-layers' 0.004 are a part
    assert chosen.how["kept_saliency"] == pytest.approx(0.5 + 0.6 + 0.9 - 0.096)


def test_forced_layers_are_gone_before_anything_is_chosen() -> None:
    shapes = config(depth=3)
    wanted = target(amount=1.5, drop_decoder_layers=1)
    chosen = planner.make(
        shapes, wanted, random_scores(shapes), costs=Linear(),
        importance=Importance(layers={"decoder.layer": [0.1, 0.0, 0.2], "encoder.layer": [0.1, 0.1, 0.1]}),
    )  # fmt: skip
    assert 1 not in chosen.keep["decoder.layer"]


def test_a_decoder_that_reads_nothing_keeps_something() -> None:
    shapes = config(ffn=16, depth=2)
    for layer in shapes.decoder_shapes or []:
        layer["cross_attn"] = {**layer["cross_attn"], "heads": 0}
    smallest = target(budget="milliseconds", amount=0.5 * latency.total(shapes, Linear()))
    chosen = planner.make(shapes, smallest, random_scores(shapes), costs=Linear())
    assert all(len(layers) >= 1 for layers in plan.pruned_shapes(shapes, chosen).values())
    with pytest.raises(PlanError, match=r"the budget cannot be met .* allow more time, lower the grid, or cut the voc"):
        planner.make(shapes, target(budget="milliseconds", amount=0.1), random_scores(shapes), costs=Linear())


def test_an_impossible_time_names_the_possible_one() -> None:
    shapes = config(heads=2, width=4, ffn=12, depth=1)
    with pytest.raises(PlanError) as caught:
        planner.make(shapes, target(amount=50.0), random_scores(shapes), costs=Linear())
    whole = latency.total(shapes, Linear())
    least = 0.5 + 2.3 + (0.8 + 0.02 * 4) + (1.0 + 0.3 + 0.05 * 8)  # the vocabulary, a narrow ffn, a narrow attention
    assert str(caught.value) == (
        f"target t: the budget cannot be met · got {whole / 50:.3f} ms of the model's {whole:.3f} · wanted more than "
        f"{least:.3f} ms, {whole / least:.2f} times as fast · lower the speedup or the grid, or cut the vocabulary"
    )


def test_without_costs_it_is_refused() -> None:
    shapes = config(depth=1)
    with pytest.raises(InputError) as caught:
        planner.make(shapes, target(), random_scores(shapes))
    assert str(caught.value) == (
        "target t: this planner needs a latency table · got planner latency without a table · "
        "fill one with `tprune table` and give it"
    )


def test_attention_shapes_of_unequal_width_are_planned() -> None:
    shapes = config(depth=1)
    shapes.decoder_shapes = [{"self_attn": attention(3, 2, 4), "cross_attn": attention(2, 4, 3), "ffn": 5}]
    chosen = planner.make(shapes, target(grid=1, amount=1.7), random_scores(shapes), costs=Linear())
    plan.check(chosen, shapes)


class Crowded(Linear):
    """A machine on which a model takes longer than its parts, the more of them there are."""

    def whole(self, parts_ms: float) -> float:
        return parts_ms + 0.02 * parts_ms**2

    def parts(self, whole_ms: float) -> float:
        return float((-1 + (1 + 0.08 * whole_ms) ** 0.5) / 0.04)


@pytest.mark.parametrize("speedup", [1.2, 2.0, 3.0])
def test_a_budget_is_of_whole_models_not_of_their_parts(speedup: float) -> None:
    shapes = config(d_model=12, heads=2, width=8, ffn=12, depth=2)
    scores = random_scores(shapes)
    chosen = planner.make(shapes, target(amount=speedup), scores, costs=Crowded())
    dense_parts = latency.total(shapes, Linear())
    dense_ms, took_ms = dense_parts + 0.02 * dense_parts**2, spent(shapes, chosen) + 0.02 * spent(shapes, chosen) ** 2
    assert chosen.how["predicted_ms"] == pytest.approx(took_ms)
    assert chosen.how["predicted_speedup"] == pytest.approx(dense_ms / took_ms)
    assert took_ms <= dense_ms / speedup
    # by the parts alone more would have had to go
    assert spent(shapes, chosen) >= spent(shapes, planner.make(shapes, target(amount=speedup), scores, costs=Linear()))
