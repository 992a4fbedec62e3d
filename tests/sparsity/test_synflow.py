"""SynFlow against a flow walked path by path, and its order of removal."""

from typing import Any

import pytest
import torch
from torch import Tensor

from tests.sparsity.small_models import config, model_of
from tprune.model.transformer import TPruneForConditionalGeneration
from tprune.sparsity import lines, synflow

SMALL = config(d_model=6, heads=2, width=2, ffn=3, depth=1)


def by_hand(model: TPruneForConditionalGeneration, gates: dict[str, Tensor]) -> Tensor:
    """The flow of a pre-norm model with one encoder and one decoder layer, with a gate on every unit."""
    weights = {name: tensor.detach().abs().double() for name, tensor in model.named_parameters()}

    def norm(x: Tensor, name: str) -> Tensor:
        scaled: Tensor = x / x.detach().mean() * weights[f"{name}.weight"]
        return scaled

    def attend(x: Tensor, place: str, memory: Tensor | None) -> Tensor:
        name = place.replace(".0.", ".layers.0.")
        y = norm(x, f"{name}.norm")
        read = y if memory is None else memory
        query, key, value = (
            weights[f"{name}.{part}_proj.weight"] @ side for part, side in (("q", y), ("k", read), ("v", read))
        )
        total = torch.zeros(6, dtype=torch.float64)
        for head in range(2):
            logit = sum(query[i] * key[i] * gates[f"{place}.qk"][i] for i in (2 * head, 2 * head + 1))
            assert isinstance(logit, Tensor)
            for j in (2 * head, 2 * head + 1):
                column = weights[f"{name}.o_proj.weight"][:, j]
                total = total + column * value[j] * gates[f"{place}.vo"][j] * logit / logit.detach()
        return x + total

    def feed(x: Tensor, place: str) -> Tensor:
        name = place.replace(".0.", ".layers.0.")
        y = norm(x, f"{name}.norm")
        hidden = (weights[f"{name}.fc1.weight"] @ y) * gates[place]
        behind: Tensor = x + weights[f"{name}.fc2.weight"] @ hidden
        return behind

    states = feed(attend(torch.ones(6).double(), "encoder.0.self_attn", None), "encoder.0.ffn")
    memory = norm(states, "encoder.final_norm")
    states = attend(torch.ones(6).double(), "decoder.0.self_attn", None)
    states = feed(attend(states, "decoder.0.cross_attn", memory), "decoder.0.ffn")
    logits: Tensor = weights["embed.weight"] @ norm(states, "decoder.final_norm")
    return logits.sum()


def test_the_first_unit_to_go_has_the_least_share_of_the_flow(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a single round every unit's share is read at once: twice the slope of its gate, one for each of its sides."""
    monkeypatch.setattr(synflow, "ROUNDS", 1)
    model, groups = model_of(SMALL), lines.groups(SMALL, lines.WIDTH_KINDS)
    gates = {group.name: torch.ones(group.size, dtype=torch.float64, requires_grad=True) for group in groups}
    total = by_hand(model, gates)
    slopes = torch.autograd.grad(total, list(gates.values()))
    found = synflow.synflow(model, groups, 0)
    for group, slope in zip(groups, slopes, strict=True):
        torch.testing.assert_close(found[group.name].double(), 2 * slope / total.detach(), rtol=1e-5, atol=0)


def test_the_flow_is_conserved_in_every_group() -> None:
    """What flows through a feed-forward network's rows flows through its columns: sum of w dR/dw on both sides."""
    model = model_of(SMALL)
    weights = {name: tensor.detach().double().abs().requires_grad_() for name, tensor in model.named_parameters()}
    synflow.flow(weights, SMALL).backward()  # type: ignore[no-untyped-call]
    for stack in ("encoder", "decoder"):
        one, two = (weights[f"{stack}.layers.0.ffn.{part}.weight"] for part in ("fc1", "fc2"))
        assert one.grad is not None and two.grad is not None
        torch.testing.assert_close((one * one.grad).sum(dim=1), (two * two.grad).sum(dim=0))


def test_an_isolated_unit_scores_nothing_and_a_thick_one_most() -> None:
    model, groups = model_of(SMALL), lines.groups(SMALL, lines.WIDTH_KINDS)
    with torch.no_grad():
        model.get_parameter("encoder.layers.0.ffn.fc2.weight")[:, 1] = 0
        model.get_parameter("decoder.layers.0.ffn.fc1.weight")[2] *= 100
    found = synflow.synflow(model, groups, 0)
    assert found["encoder.0.ffn"][1] == 0
    assert found["encoder.0.ffn"].argmin() == 1
    assert found["decoder.0.ffn"].argmax() == 2


@pytest.mark.parametrize(
    "rest",
    [
        {"norm": "post", "final_norm": False, "embedding_norm": True, "target_vocab_size": 23, "output_bias": True},
        {"tie_output": False, "positions": "learned"},
    ],
)
def test_every_convention_flows(rest: dict[str, Any]) -> None:
    shapes = config(**rest)
    groups = lines.groups(shapes, lines.WIDTH_KINDS)
    found = synflow.synflow(model_of(shapes), groups, 0)
    assert all((found[group.name] > 0).all() and found[group.name].isfinite().all() for group in groups)
