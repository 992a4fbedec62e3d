"""Scores against the definition of each criterion."""

import copy
from typing import Any, get_args

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tests.sparsity.small_models import Sentences, attention, model_of
from tprune.config import Target
from tprune.errors import InputError
from tprune.learn.batches import collate
from tprune.model.shape import TPruneConfig
from tprune.model.transformer import TPruneForConditionalGeneration
from tprune.sparsity import lines, scores

SHAPES = TPruneConfig(
    vocab_size=23,
    d_model=12,
    encoder_shapes=[{"self_attn": attention(2, 2, 3), "ffn": 4}],
    decoder_shapes=[{"self_attn": attention(1, 2, 2), "cross_attn": attention(2, 1, 2), "ffn": 3}],
    dropout=0.5,  # scores are made without it
)
GROUPS = lines.groups(SHAPES, lines.WIDTH_KINDS)


def mask_of(name: str, unit: int, model: TPruneForConditionalGeneration) -> dict[str, Tensor]:
    """One where a parameter belongs to the unit, by hand."""
    masks = {parameter: torch.zeros_like(tensor) for parameter, tensor in model.named_parameters()}
    stack, index, sublayer, *kind = name.split(".")
    prefix = f"{stack}.layers.{index}.{sublayer}"
    inner, outer = {
        (): (["fc1"], "fc2"),
        ("qk",): (["q_proj", "k_proj"], None),
        ("vo",): (["v_proj"], "o_proj"),
        ("head",): (["q_proj", "k_proj", "v_proj"], "o_proj"),
    }[tuple(kind)]
    heads = model.get_submodule(prefix).heads if kind == ["head"] else None

    def span(lines: int) -> slice:
        return slice(unit, unit + 1) if heads is None else slice(unit * lines // heads, (unit + 1) * lines // heads)

    for part in inner:
        rows = span(len(masks[f"{prefix}.{part}.weight"]))
        masks[f"{prefix}.{part}.weight"][rows] = 1
        masks[f"{prefix}.{part}.bias"][rows] = 1
    if outer:
        masks[f"{prefix}.{outer}.weight"][:, span(masks[f"{prefix}.{outer}.weight"].shape[1])] = 1
    return masks


def loss(model: TPruneForConditionalGeneration, parameters: dict[str, Tensor], batch: dict[str, Tensor]) -> Tensor:
    inputs = {name: tensor for name, tensor in batch.items() if name != "labels"}
    logits = torch.func.functional_call(model, parameters, kwargs={**inputs, "use_cache": False}).logits
    losses = [
        -F.log_softmax(row, dim=-1)[position, label]
        for row, labels in zip(logits, batch["labels"], strict=True)
        for position, label in enumerate(labels.tolist())
        if label != -100
    ]
    return torch.stack(losses).mean()


@pytest.mark.parametrize("batches", [1, 2])
def test_taylor_is_the_loss_slope_of_every_units_gate(batches: int) -> None:
    """Unit by unit: scale its lines by a gate g, and take |dL/dg| at g = 1."""
    model = model_of(SHAPES)
    pairs = Sentences.random({1: 6, 2: 120}[batches], longest=12)
    parts = batches_by_hand(pairs)
    assert len(parts) == batches
    groups = GROUPS if batches == 1 else lines.groups(SHAPES, ("ffn",))
    found = scores.TEXT_SCORES["taylor"](model, groups, pairs, 0)
    collated = [collate([pairs[index] for index in part], pad_id=0, start_id=0) for part in parts]
    parameters = {name: tensor.detach() for name, tensor in model.named_parameters()}
    for group in groups:
        for unit in range(group.size):
            masks = mask_of(group.name, unit, model)
            total = 0.0
            for batch in collated:
                gate = torch.ones((), requires_grad=True)
                gated = {name: tensor + (gate - 1) * masks[name] * tensor for name, tensor in parameters.items()}
                total += abs(torch.autograd.grad(loss(model, gated, batch), gate)[0].item())
            assert found[group.name][unit].item() == pytest.approx(total, rel=1e-3, abs=1e-6)


def batches_by_hand(pairs: Sentences) -> list[list[int]]:
    """Shortest pairs first, as many as keep sentences times longest side within 1024."""
    order = sorted(range(len(pairs)), key=lambda index: sum(map(len, pairs[index])))
    parts: list[list[int]] = [[]]
    for index in order:
        longest = max(max(map(len, pairs[each])) for each in [*parts[-1], index])
        if longest * (len(parts[-1]) + 1) > 1024:
            parts.append([])
        parts[-1].append(index)
    return parts


@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_fisher_is_the_squared_slope_of_every_units_gate(activation: str) -> None:
    """Sentence by sentence, unit by unit: scale its lines by a gate g, (dL/dg)^2 of the sentence's loss at g = 1."""
    shapes = copy.deepcopy(SHAPES)
    shapes.activation = activation
    model, pairs = model_of(shapes), Sentences.random(4)
    groups = lines.groups(shapes, (*lines.WIDTH_KINDS, "head"))
    found = scores.TEXT_SCORES["fisher"](model, groups, pairs, 0)
    parameters = {name: tensor.detach() for name, tensor in model.named_parameters()}
    sentences = [collate([pairs[index]], pad_id=0, start_id=0) for index in range(len(pairs))]
    for group in groups:
        for unit in range(group.size):
            masks = mask_of(group.name, unit, model)
            total = 0.0
            for sentence in sentences:
                gate = torch.ones((), requires_grad=True)
                gated = {name: tensor + (gate - 1) * masks[name] * tensor for name, tensor in parameters.items()}
                slope = torch.autograd.grad(loss(model, gated, sentence), gate)[0].item()
                total += (slope * sentence["labels"].numel()) ** 2
            assert found[group.name][unit].item() == pytest.approx(total, rel=1e-3, abs=1e-6)


@pytest.mark.parametrize("name", [*scores.SCORES, *scores.TEXT_SCORES])
def test_scoring_leaves_the_model_alone_and_depends_on_nothing_else(name: str) -> None:
    model, pairs = model_of(SHAPES), Sentences.random(7)
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    first = scores.score(name, model, GROUPS, pairs, 0)
    torch.manual_seed(17)
    again = scores.score(name, model.train(), GROUPS, pairs, 0)
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(torch.equal(before[key], tensor) for key, tensor in model.state_dict().items())
    for group in GROUPS:
        assert torch.equal(first[group.name], again[group.name])
        assert first[group.name].shape == (group.size,)
        assert (first[group.name] >= 0).all()
        assert not first[group.name].requires_grad


@pytest.mark.parametrize("name", scores.TEXT_SCORES)
def test_scores_on_text_without_a_corpus_are_refused(name: str) -> None:
    with pytest.raises(InputError) as caught:
        scores.score(name, model_of(SHAPES), GROUPS, None, 0)
    assert str(caught.value) == (
        f"this score needs calibration text · got score {name} without a corpus · give a corpus, or choose magnitude"
    )


@pytest.mark.parametrize("name", ["fisher", "activation", "apoz", "obs"])
def test_units_that_are_no_features_are_refused(name: str) -> None:
    layers = lines.groups(SHAPES, ("layer",))
    with pytest.raises(InputError) as caught:
        scores.score(name, model_of(SHAPES), layers, Sentences.random(3), 0)
    assert str(caught.value) == (
        "encoder.layer: this score needs units that are features of projections · got layer · "
        "wanted ffn | qk | vo | head · choose magnitude or taylor for other units"
    )


def test_the_settings_list_every_score() -> None:
    (names,) = [Target.model_fields["score"].annotation]
    assert set(get_args(names)) == {*scores.SCORES, *scores.TEXT_SCORES}


@pytest.mark.parametrize("name", ["shs", "group_lasso", "magnitude"])
def test_norm_scores_are_squared_norms(name: str) -> None:
    model = model_of(SHAPES)
    found = scores.SCORES[name](model, GROUPS, 0)
    for group in GROUPS:
        for unit in range(group.size):
            masks = mask_of(group.name, unit, model)
            square = sum((parameter * masks[key]).square().sum().item() for key, parameter in model.named_parameters())
            assert found[group.name][unit].item() == pytest.approx(square, rel=1e-5)
            assert not found[group.name].requires_grad


def test_random_scores_depend_on_the_seed_alone() -> None:
    def made(seed: int, model_seed: int = 0) -> dict[str, Tensor]:
        torch.manual_seed(model_seed)
        return scores.score("random", model_of(SHAPES, model_seed), GROUPS, None, seed)

    first, again, other = made(3), made(3, 1), made(4)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert all(not torch.equal(first[name], other[name]) for name in first)
    one, two = first["encoder.0.self_attn.qk"], first["encoder.0.ffn"]
    assert not torch.equal(one[:4], two[:4])


def test_scores_of_a_group_sum_to_its_importance() -> None:
    model, importance = model_of(SHAPES), {"encoder.0.ffn": 0.25}
    raw: dict[str, Any] = scores.SCORES["magnitude"](model, GROUPS, 0)
    found = scores.score("magnitude", model, GROUPS, None, 0, importance)
    assert found.keys() == {group.name for group in GROUPS}
    for name, values in found.items():
        assert values.sum().item() == pytest.approx(importance.get(name, 1.0), rel=1e-5)
        torch.testing.assert_close(values / values.sum(), raw[name] / raw[name].sum())


def test_a_dead_group_scores_zero() -> None:
    model = model_of(SHAPES)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.startswith("encoder.layers.0.ffn.fc"):
                parameter.zero_()
    assert scores.score("shs", model, GROUPS, None, 0)["encoder.0.ffn"].tolist() == [0.0] * 4


def test_unknown_score_is_refused() -> None:
    with pytest.raises(InputError) as caught:
        scores.score("hoyer", model_of(SHAPES), GROUPS, None, 0)
    assert str(caught.value) == (
        "unknown score · got hoyer · wanted shs | group_lasso | magnitude | synflow | random | taylor | fisher | "
        "activation | apoz | obs · use one of these"
    )
