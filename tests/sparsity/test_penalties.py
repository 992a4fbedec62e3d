"""SHS and group lasso against numbers by hand, closed forms and finite differences."""

import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from tests.sparsity.autograd_penalties import penalty, unit_norms
from tests.sparsity.small_models import attention, model_of
from tprune.model.shape import TPruneConfig
from tprune.model.transformer import TPruneForConditionalGeneration
from tprune.sparsity import lines
from tprune.sparsity.lines import Group
from tprune.sparsity.penalties import Decoupled

SHAPES = TPruneConfig(
    vocab_size=23,
    d_model=12,
    encoder_shapes=[{"self_attn": attention(3, 2, 4), "ffn": 4}],
    decoder_shapes=[{"self_attn": attention(2, 1, 2), "cross_attn": attention(2, 3, 2), "ffn": 6}],
)
KINDS = ("shs", "group_lasso")
UNITS = ("ffn", "qk", "vo", "head")


def exact() -> TPruneForConditionalGeneration:
    """A model in float64."""
    model: TPruneForConditionalGeneration = model_of(SHAPES).double()
    return model


def groups_of(kind: str) -> list[Group]:
    return lines.groups(SHAPES, (kind,))


def one(name: str) -> Group:
    return next(group for group in lines.groups(SHAPES) if group.name == name)


def norms_of(model: TPruneForConditionalGeneration, group: Group) -> Tensor:
    return unit_norms(group, dict(model.named_parameters())).detach()


def hand_made() -> TPruneForConditionalGeneration:
    """The encoder's feed-forward has units of norm 3, 7, 0 and 9, spread over fc1, its bias and fc2."""
    model = exact()
    ffn = model.encoder.layers[0].ffn
    assert ffn is not None
    with torch.no_grad():
        for tensor in (ffn.fc1.weight, ffn.fc1.bias, ffn.fc2.weight):
            tensor.zero_()
        for unit, (row, bias, column) in enumerate([(1, 2, 2), (2, -3, 6), (0, 0, 0), (-4, 4, 7)]):
            ffn.fc1.weight[unit, 5], ffn.fc1.bias[unit], ffn.fc2.weight[2, unit] = row, bias, column
    return model


def test_values_by_hand() -> None:
    model, group = hand_made(), one("encoder.0.ffn")
    assert norms_of(model, group).tolist() == [3, 7, 0, 9]
    # (3 + 7 + 9)^2 / (9 + 49 + 81) / 4 and (3 + 7 + 9) / 4
    assert penalty("shs", model, [group], {}).item() == pytest.approx(361 / 139 / 4, rel=1e-14)
    assert penalty("group_lasso", model, [group], {}).item() == pytest.approx(19 / 4, rel=1e-14)


def test_effective_lines_by_hand() -> None:
    model = hand_made()
    ffn = model.decoder.layers[0].ffn
    assert ffn is not None
    with torch.no_grad():
        for tensor in (ffn.fc1.weight, ffn.fc1.bias, ffn.fc2.weight):
            tensor.zero_()
        ffn.fc1.bias[:2] = torch.tensor([3.0, 1.0])
    groups = [*groups_of("ffn"), one("decoder.0.self_attn.qk")]
    found = Decoupled("shs", model, groups, dict.fromkeys((group.name for group in groups), 1.0)).effective_lines()
    assert found.keys() == {"effective_ffn", "effective_qk"}
    assert found["effective_ffn"] == pytest.approx((361 / 139 + 16 / 10) / (4 + 6))  # of 4 units, and of 6
    left = Decoupled("shs", model, groups, {**dict.fromkeys((group.name for group in groups), 0.0), groups[0].name: 1})
    assert left.effective_lines() == {"effective_ffn": pytest.approx(361 / 139 / 4)}


def test_values_of_an_attention_by_hand() -> None:
    model = exact()
    attention_part = model.decoder.layers[0].self_attn  # 2 heads, qk 1, v 2
    assert attention_part is not None
    with torch.no_grad():
        for parameter in attention_part.parameters():
            parameter.zero_()
        attention_part.q_proj.weight[0, 0], attention_part.k_proj.bias[0] = 3, 4  # qk unit 0, norm 5
        attention_part.k_proj.weight[1, 7], attention_part.q_proj.bias[1] = -5, 12  # qk unit 1, norm 13
        attention_part.v_proj.weight[1, 3], attention_part.o_proj.weight[6, 1] = 8, 6  # vo unit 1 in head 0, norm 10
        attention_part.v_proj.bias[2] = -7  # vo unit 2, in head 1
        attention_part.o_proj.bias.fill_(100)  # belongs to no unit
    name = "decoder.0.self_attn"
    qk, vo, head = (norms_of(model, one(f"{name}.{kind}")) for kind in ("qk", "vo", "head"))
    assert qk.tolist() == [5, 13]
    assert vo.tolist() == [0, 10, 7, 0]
    assert head.tolist() == pytest.approx([math.sqrt(25 + 100), math.sqrt(169 + 49)])
    assert penalty("shs", model, [one(f"{name}.qk")], {}).item() == pytest.approx(18**2 / 194 / 2)
    assert penalty("shs", model, [one(f"{name}.vo")], {}).item() == pytest.approx(17**2 / 149 / 4)
    both = [one(f"{name}.qk"), one(f"{name}.vo")]
    weighted = penalty("group_lasso", model, both, {f"{name}.vo": 0.5})
    assert weighted.item() == pytest.approx(18 / 2 + 0.5 * 17 / 4)


def test_members_have_the_widths_of_their_heads() -> None:
    for kind, width in (("qk", {1}), ("vo", {1}), ("ffn", {1})):
        assert {member.width for group in groups_of(kind) for member in group.members[0]} == width
    widths = [{member.width for member in group.members[0]} for group in groups_of("head")]
    assert widths == [{2, 4}, {1, 2}, {3, 2}]  # qk and v of the three attentions


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("kind", KINDS)
def test_gradient_is_the_closed_form_and_that_of_finite_differences(kind: str, unit: str) -> None:
    model, groups = exact(), groups_of(unit)
    weights = {group.name: 0.3 + index for index, group in enumerate(groups)}
    penalty(kind, model, groups, weights).backward()  # type: ignore[no-untyped-call]
    parameters = dict(model.named_parameters())
    for group in groups:
        norms, weight = norms_of(model, group), weights[group.name]
        total, square = norms.sum(), norms.square().sum()
        for member in group.members[0]:
            tensor, gradient = parameters[member.parameter].detach(), parameters[member.parameter].grad
            assert gradient is not None
            for position in range(tensor.shape[member.axis]):
                norm = norms[position // member.width]
                line = tensor.select(member.axis, position)
                if kind == "shs":
                    expected = 2 * (total / square**2) * (square / norm - total) * line
                else:
                    expected = line / norm
                torch.testing.assert_close(
                    gradient.select(member.axis, position), weight * expected / group.size, rtol=1e-10, atol=1e-13
                )
        member = group.members[0][int(torch.randint(len(group.members[0]), ()).item())]
        parameter = parameters[member.parameter]
        index = int(torch.randint(parameter.numel(), ()).item())
        assert parameter.grad is not None
        slope = difference(kind, model, groups, weights, parameter, index)
        assert parameter.grad.flatten()[index].item() == pytest.approx(slope, rel=1e-6, abs=1e-9)


@torch.no_grad()
def difference(
    kind: str,
    model: TPruneForConditionalGeneration,
    groups: Sequence[Group],
    weights: dict[str, float],
    parameter: Tensor,
    index: int,
    step: float = 1e-5,
) -> float:
    """Central difference by one entry of a parameter."""
    flat, old = parameter.view(-1), parameter.view(-1)[index].item()
    values = []
    for sign in (1, -1):
        flat[index] = old + sign * step
        values.append(penalty(kind, model, groups, weights).item())
    flat[index] = old
    return (values[0] - values[1]) / (2 * step)


def test_shs_does_not_change_with_the_scale_and_the_lasso_does() -> None:
    model, group = exact(), one("encoder.0.ffn")
    before = {kind: penalty(kind, model, [group], {}).item() for kind in KINDS}
    assert 1 / group.size < before["shs"] < 1
    scale(model, group, 37.0)
    assert penalty("shs", model, [group], {}).item() == pytest.approx(before["shs"], rel=1e-12)
    assert penalty("group_lasso", model, [group], {}).item() == pytest.approx(37 * before["group_lasso"], rel=1e-12)


@torch.no_grad()
def scale(model: TPruneForConditionalGeneration, group: Group, factor: float) -> None:
    parameters = dict(model.named_parameters())
    for member in group.members[0]:
        parameters[member.parameter].mul_(factor)


def test_bounds_of_shs() -> None:
    model, group = hand_made(), one("encoder.0.ffn")
    ffn = model.encoder.layers[0].ffn
    assert ffn is not None
    with torch.no_grad():
        for tensor in (ffn.fc1.weight, ffn.fc1.bias, ffn.fc2.weight):
            tensor.zero_()
        ffn.fc1.bias[1] = 0.01
        assert penalty("shs", model, [group], {}).item() == pytest.approx(1 / 4)
        ffn.fc1.bias.copy_(torch.tensor([0.01, -0.01, 0.01, 0.01]))
        assert penalty("shs", model, [group], {}).item() == pytest.approx(1)


@pytest.mark.parametrize("unit", UNITS)
def test_a_unit_shrinks_under_shs_exactly_when_its_norm_is_below_q_over_s(unit: str) -> None:
    model, groups = exact(), groups_of(unit)
    before = {group.name: norms_of(model, group) for group in groups}
    below = {name: norms < norms.square().sum() / norms.sum() for name, norms in before.items()}
    assert all(0 < entry.sum() < len(entry) for entry in below.values())

    penalty("shs", model, groups, {}).backward()  # type: ignore[no-untyped-call]
    plain = exact()
    with torch.no_grad():
        for moved, parameter in zip(plain.parameters(), model.parameters(), strict=True):
            if parameter.grad is not None:
                moved.sub_(1e-4 * parameter.grad)
    for group in groups:
        assert ((norms_of(plain, group) < before[group.name]) == below[group.name]).all()

    Decoupled("shs", model, groups, {group.name: 1.0 for group in groups})(1e-4)
    for group in groups:
        assert ((norms_of(model, group) < before[group.name]) == below[group.name]).all()


@pytest.mark.parametrize("unit", UNITS)
def test_decoupled_shs_is_the_preconditioned_gradient_step(unit: str) -> None:
    model, groups = exact(), groups_of(unit)
    expected = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    for index, group in enumerate(groups):
        model.zero_grad()
        square = norms_of(model, group).square().sum()
        penalty("shs", model, [group], {}).backward()  # type: ignore[no-untyped-call]
        for member in group.members[0]:
            gradient = model.get_parameter(member.parameter).grad
            assert gradient is not None
            expected[member.parameter] -= 0.01 * (1 + index) * square * gradient
    strengths = {group.name: 1.0 + index for index, group in enumerate(groups)}
    Decoupled("shs", model, groups, strengths)(0.01)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.detach(), expected[name], rtol=1e-11, atol=1e-13)


def test_decoupled_shs_keeps_the_square_norm_to_first_order() -> None:
    changes = []
    for step in (1e-2, 1e-3):
        model, group = exact(), one("decoder.0.cross_attn.qk")
        before = norms_of(model, group).square().sum()
        Decoupled("shs", model, [group], {group.name: 1.0})(step)
        changes.append(((norms_of(model, group).square().sum() - before) / before).item())
    assert 0 < changes[0] < 1e-3
    assert changes[1] == pytest.approx(changes[0] / 100, rel=1e-6)  # purely quadratic in the step


def test_group_lasso_takes_the_same_length_from_every_unit_and_stops_at_zero() -> None:
    model, group = hand_made(), one("encoder.0.ffn")  # norms 3, 7, 0, 9: mean 4.75
    shrink = Decoupled("group_lasso", model, [group], {group.name: 2.0})
    shrink(0.1)
    assert norms_of(model, group).tolist() == pytest.approx([3 - 0.95, 7 - 0.95, 0, 9 - 0.95])
    assert model.get_parameter("encoder.layers.0.ffn.fc1.bias")[1].item() == pytest.approx(-3 * 6.05 / 7)
    for _ in range(20):
        shrink(0.1)
    assert norms_of(model, group)[0] == 0
    weight = model.get_parameter("encoder.layers.0.ffn.fc1.weight")
    assert weight[0].abs().sum() == 0
    assert weight[3, 5] < 0  # nothing ever crosses zero


def test_a_shs_step_that_would_cross_zero_kills_the_unit() -> None:
    model, group = hand_made(), one("encoder.0.ffn")
    Decoupled("shs", model, [group], {group.name: 1.0})(1.0)
    # m = 19/4, Q/S = 139/19: 1 - 2 (m/3 - m 19/139) < 0, 1 - 2 (m/9 - m 19/139) > 1
    assert norms_of(model, group)[0] == 0
    assert norms_of(model, group)[3].item() == pytest.approx(9 * (1 - 2 * (19 / 4 / 9 - 19 / 4 * 19 / 139)))


@pytest.mark.parametrize("kind", KINDS)
def test_zero_lines_exert_and_feel_no_force_and_nothing_becomes_nan(kind: str) -> None:
    model, group, dead = hand_made(), one("encoder.0.ffn"), one("decoder.0.ffn")
    scale(model, dead, 0.0)
    value = penalty(kind, model, [group, dead], {})
    assert value.item() == pytest.approx(361 / 139 / 4 if kind == "shs" else 19 / 4)
    value.backward()  # type: ignore[no-untyped-call]
    for each in (group, dead):
        for member in each.members[0]:
            gradient = model.get_parameter(member.parameter).grad
            assert gradient is not None
            assert gradient.isfinite().all()
            assert gradient.select(member.axis, 2).abs().sum() == 0
    strengths = {group.name: 1.0, dead.name: 1.0}
    for _ in range(3):
        Decoupled(kind, model, [group, dead], strengths)(0.01)
    assert all(parameter.isfinite().all() for parameter in model.parameters())
    assert norms_of(model, group)[2] == 0
    assert norms_of(model, dead).sum() == 0


@pytest.mark.parametrize("kind", KINDS)
def test_the_step_is_relative_so_that_scale_and_strength_zero_do_not_matter(kind: str) -> None:
    ratios = []
    for factor in (1.0, 1000.0):
        model, group, rest = exact(), one("encoder.0.self_attn.vo"), one("encoder.0.ffn")
        scale(model, group, factor)
        before, untouched = norms_of(model, group), norms_of(model, rest)
        Decoupled(kind, model, [group, rest], {group.name: 0.7, rest.name: 0.0})(0.02)
        ratios.append(norms_of(model, group) / before)
        assert torch.equal(norms_of(model, rest), untouched)
    torch.testing.assert_close(ratios[0], ratios[1])
    assert not torch.allclose(ratios[0], torch.ones_like(ratios[0]))
