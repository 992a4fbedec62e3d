"""Activation and APoZ against the tensors of every sentence, taken with plain hooks and no padding."""

import pytest
import torch
from torch import Tensor

from tests.sparsity.flowing import last_projection, seen
from tests.sparsity.small_models import Sentences, attention, model_of
from tprune.model.shape import TPruneConfig
from tprune.model.transformer import TPruneForConditionalGeneration
from tprune.sparsity import lines, scores

SHAPES = TPruneConfig(
    vocab_size=23,
    d_model=12,
    encoder_shapes=[{"self_attn": attention(2, 2, 3), "ffn": 5}],
    decoder_shapes=[{"self_attn": attention(2, 3, 2), "cross_attn": attention(2, 2, 2), "ffn": 4}],
)
KINDS = (*lines.WIDTH_KINDS, "head")
PAIRS = Sentences.random(9)


def model_with(activation: str) -> TPruneForConditionalGeneration:
    shapes = TPruneConfig.from_dict(SHAPES.to_dict() | {"activation": activation})
    return model_of(shapes)


def values(group: lines.Group, model: TPruneForConditionalGeneration) -> Tensor:
    """All tokens' features where a group's units enter fc2 or O."""
    return torch.cat([each[f"in:{last_projection(group)}"] for each in seen(model, PAIRS)])


def test_activation_is_the_mean_absolute_value() -> None:
    model = model_with("relu")
    groups = lines.groups(SHAPES, KINDS)
    found = scores.TEXT_SCORES["activation"](model, groups, PAIRS, 0)
    for group in groups:
        if group.kind == "qk":
            place = group.name.removesuffix(".qk")
            products = []
            for each in seen(model, PAIRS):
                queries, keys = each[f"out:{place}.q_proj"], each[f"out:{place}.k_proj"]
                for time, query in enumerate(queries):
                    visible = keys[: time + 1] if place == "decoder.0.self_attn" else keys
                    products += [(query * key).abs() for key in visible]
            wanted = torch.stack(products).mean(dim=0)
        else:
            wanted = values(group, model).abs().mean(dim=0).view(group.size, -1).mean(dim=1)
        torch.testing.assert_close(found[group.name], wanted)


def test_apoz_behind_a_relu_counts_exact_zeros() -> None:
    model = model_with("relu")
    groups = lines.groups(SHAPES, ("ffn",))
    found = scores.TEXT_SCORES["apoz"](model, groups, PAIRS, 0)
    for group in groups:
        zeros = (values(group, model) == 0).float().mean(dim=0)
        assert 0 < zeros.mean() < 1
        torch.testing.assert_close(found[group.name], 1 - zeros)


@pytest.mark.parametrize("activation", ["relu", "gelu", "silu"])
def test_apoz_elsewhere_counts_values_near_zero(activation: str) -> None:
    model = model_with(activation)
    groups = [group for group in lines.groups(SHAPES, KINDS) if (group.kind, activation) != ("ffn", "relu")]
    found = scores.TEXT_SCORES["apoz"](model, groups, PAIRS, 0)
    for group in groups:
        if group.kind == "qk":
            place = group.name.removesuffix(".qk")
            read = [
                torch.cat([each[f"out:{place}.{part}"] for each in seen(model, PAIRS)]) for part in ("q_proj", "k_proj")
            ]
        else:
            read = [values(group, model)]
        near = [(each.abs() <= 0.1 * each.abs().mean()).float().mean(dim=0) for each in read]
        wanted = 1 - torch.stack(near).mean(dim=0).view(group.size, -1).mean(dim=1)
        torch.testing.assert_close(found[group.name], wanted)
