"""Scores against the definition of each criterion."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tests.sparsity.small_models import Sentences, attention, model_of
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
    inner, outer = {(): (["fc1"], "fc2"), ("qk",): (["q_proj", "k_proj"], None), ("vo",): (["v_proj"], "o_proj")}[
        tuple(kind)
    ]
    for part in inner:
        masks[f"{prefix}.{part}.weight"][unit] = 1
        masks[f"{prefix}.{part}.bias"][unit] = 1
    if outer:
        masks[f"{prefix}.{outer}.weight"][:, unit] = 1
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
    found = scores.SCORES["taylor"](model, groups, pairs, 0)
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


def test_taylor_leaves_no_gradients_and_the_weights_alone() -> None:
    model = model_of(SHAPES)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    scores.score("taylor", model, GROUPS, Sentences.random(4), 0)
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_taylor_without_a_corpus_is_refused() -> None:
    with pytest.raises(InputError) as caught:
        scores.score("taylor", model_of(SHAPES), GROUPS, None, 0)
    assert str(caught.value) == (
        "this score needs calibration text · got score taylor without a corpus · give a corpus, or choose magnitude"
    )


@pytest.mark.parametrize("name", ["shs", "magnitude"])
def test_norm_scores_are_squared_norms(name: str) -> None:
    model = model_of(SHAPES)
    found = scores.SCORES[name](model, GROUPS, None, 0)
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
    raw: dict[str, Any] = scores.SCORES["magnitude"](model, GROUPS, None, 0)
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
        scores.score("fisher", model_of(SHAPES), GROUPS, None, 0)
    assert str(caught.value) == (
        "unknown score · got fisher · wanted shs | magnitude | taylor | random · use one of these"
    )
