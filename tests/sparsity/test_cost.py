"""Counted costs against the model's own parameters and against torch's FLOP counter."""

from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from tests.sparsity.small_models import attention, config, configs, model_of
from tprune.model.shape import TPruneConfig
from tprune.model.transformer import CACHE, TPruneForConditionalGeneration
from tprune.sparsity import cost, plan


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(configs())
def test_parameters_are_those_of_the_model(shapes: TPruneConfig) -> None:
    model = TPruneForConditionalGeneration(shapes)
    assert cost.total(shapes, "parameters") == sum(parameter.numel() for parameter in model.parameters())


@torch.no_grad()
def counted(model: TPruneForConditionalGeneration) -> int:
    """FLOPs of encoding S tokens and T greedy steps with a cache, as torch counts matrix products."""
    source = torch.randint(2, 20, (1, cost.SOURCE_TOKENS))
    # the mathematical backend: the CPU's fused attention has no entry in torch's FLOP counter
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        states = model.get_encoder()(source)
        cache = None
        for _ in range(cost.TARGET_TOKENS):
            token = torch.randint(2, 20, (1, 1))
            cache = model(decoder_input_ids=token, encoder_outputs=states, use_cache=True, **{CACHE: cache})[CACHE]
    return int(counter.get_total_flops())


UNEVEN = TPruneConfig(
    vocab_size=23,
    target_vocab_size=29,
    d_model=16,
    encoder_shapes=[{"self_attn": attention(2, 4, 3), "ffn": 6}, {"self_attn": attention(0, 3, 2), "ffn": 4}],
    decoder_shapes=[
        {"self_attn": attention(2, 2, 3), "cross_attn": attention(3, 3, 2), "ffn": 0},
        {"self_attn": attention(1, 2, 3), "cross_attn": attention(0, 2, 2), "ffn": 5},
    ],
    max_positions=32,
)


@pytest.mark.parametrize("shapes", [config(), config(norm="post", ffn=7), UNEVEN])
def test_flops_are_those_of_torchs_counter(shapes: TPruneConfig) -> None:
    assert cost.total(shapes, "flops") == counted(model_of(shapes))


def test_flops_of_one_sublayer_by_hand() -> None:
    d, s, t = 16, cost.SOURCE_TOKENS, cost.TARGET_TOKENS
    shape = attention(2, 4, 3)

    def linear(rows: int, out: int) -> int:
        return 2 * rows * d * out

    def one(stack: str, name: str, part: Any) -> int:
        return cost.sublayer("flops", d, stack, name, part)

    assert one("encoder", "ffn", 5) == 2 * linear(s, 5)
    assert one("decoder", "ffn", 5) == 2 * linear(t, 5)
    scores_and_sums = 2 * 2 * (4 + 3)  # both matrix products of two heads, for one query and one key
    assert one("encoder", "self_attn", shape) == 2 * linear(s, 8) + 2 * linear(s, 6) + scores_and_sums * s * s
    assert one("decoder", "self_attn", shape) == (
        2 * linear(t, 8) + 2 * linear(t, 6) + scores_and_sums * sum(range(1, t + 1))
    )
    assert one("decoder", "cross_attn", shape) == (
        linear(t, 8) + linear(t, 6) + linear(s, 8) + linear(s, 6) + scores_and_sums * s * t
    )
    assert one("encoder", "ffn", 0) == one("decoder", "cross_attn", attention(0, 4, 3)) == 0


def test_other_shapes_are_those_of_the_cut_model() -> None:
    shapes = config()
    chosen = plan.make("p", shapes, {"encoder.0.ffn": (0, 1), "decoder.layer": (1,)}, {})
    cut = plan.pruned_shapes(shapes, chosen)
    smaller = TPruneConfig(**(shapes.to_dict() | {f"{stack}_shapes": part for stack, part in cut.items()}))
    for quantity in ("parameters", "flops"):
        assert cost.total(shapes, quantity, cut) == cost.total(smaller, quantity) < cost.total(shapes, quantity)
