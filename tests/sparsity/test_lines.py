"""What a unit is, read off the model's own modules instead of the table of members."""

from typing import Any

import pytest
import torch
from torch import Tensor

from tests.sparsity.small_models import attention, config, model_of
from tprune.errors import InputError
from tprune.model.shape import TPruneConfig
from tprune.sparsity import lines

SHAPES = TPruneConfig(
    vocab_size=23,
    d_model=12,
    encoder_shapes=[{"self_attn": attention(3, 2, 4), "ffn": 5}, {"self_attn": attention(0, 2, 2), "ffn": 3}],
    decoder_shapes=[{"self_attn": attention(1, 2, 1), "cross_attn": attention(2, 3, 2), "ffn": 0}],
)


def slices(part: Any, kind: str, unit: int) -> list[Tensor]:
    """The lines of one unit, out x in layout."""
    if kind == "ffn":
        return [part.fc1.weight[unit], part.fc1.bias[unit], part.fc2.weight[:, unit]]
    if kind == "qk":
        return [part.q_proj.weight[unit], part.q_proj.bias[unit], part.k_proj.weight[unit], part.k_proj.bias[unit]]
    if kind == "vo":
        return [part.v_proj.weight[unit], part.v_proj.bias[unit], part.o_proj.weight[:, unit]]
    assert kind == "head"
    qk = [line for row in range(unit * part.qk, (unit + 1) * part.qk) for line in slices(part, "qk", row)]
    return qk + [line for row in range(unit * part.v, (unit + 1) * part.v) for line in slices(part, "vo", row)]


def test_groups_in_the_order_of_the_network() -> None:
    expected = {
        "encoder.0.self_attn.head": 3, "encoder.0.self_attn.qk": 6, "encoder.0.self_attn.vo": 12, "encoder.0.ffn": 5,
        "encoder.0.sublayer": 2, "encoder.1.ffn": 3, "encoder.1.sublayer": 1, "encoder.layer": 2,
        "decoder.0.self_attn.head": 1, "decoder.0.self_attn.qk": 2, "decoder.0.self_attn.vo": 1,
        "decoder.0.cross_attn.head": 2, "decoder.0.cross_attn.qk": 6, "decoder.0.cross_attn.vo": 4,
        "decoder.0.sublayer": 2, "decoder.layer": 1,
        "hidden": 12, "vocab": 23, "output": 23,
    }  # fmt: skip
    assert [(group.name, group.size) for group in lines.groups(SHAPES)] == list(expected.items())
    assert [group.name for group in lines.groups(SHAPES, ("ffn",))] == ["encoder.0.ffn", "encoder.1.ffn"]


def test_members_cover_their_parameters_exactly() -> None:
    parameters = dict(model_of(SHAPES).named_parameters())
    for group in lines.groups(SHAPES, ("ffn", "qk", "vo", "head")):
        for member in group.members[0]:
            assert parameters[member.parameter].shape[member.axis] == group.size * member.width
    head = next(group for group in lines.groups(SHAPES) if group.name == "encoder.0.self_attn.head")
    assert {member.parameter.split(".")[-2]: member.width for member in head.members[0]} == {
        "q_proj": 2, "k_proj": 2, "v_proj": 4, "o_proj": 4,
    }  # fmt: skip


@pytest.mark.parametrize("kind", (*lines.WIDTH_KINDS, "head"))
def test_norms_products_and_zeros_are_those_of_the_units_lines(kind: str) -> None:
    model, other = model_of(SHAPES, 0).double(), model_of(SHAPES, 1).double()
    parameters, others = ({name: p.detach() for name, p in one.named_parameters()} for one in (model, other))
    for group in lines.groups(SHAPES, (kind,)):
        place = group.name if kind == "ffn" else group.name.removesuffix(f".{kind}")
        part, twin = (one.get_submodule(place.replace(".", ".layers.", 1)) for one in (model, other))
        units = [flat(part, kind, unit) for unit in range(group.size)]
        twins = [flat(twin, kind, unit) for unit in range(group.size)]
        expected = torch.stack([unit.norm() for unit in units])
        torch.testing.assert_close(lines.unit_square_norms(group, parameters).sqrt(), expected)
        products = torch.stack([unit @ other for unit, other in zip(units, twins, strict=True)])
        torch.testing.assert_close(lines.unit_products(group, parameters, others), products)
        chosen = sorted({0, group.size - 1})
        before = zeros(parameters)
        lines.zero_units(group, chosen, parameters)
        assert all((flat(part, kind, unit) == 0).all() for unit in chosen)
        assert zeros(parameters) - before == sum(len(units[unit]) for unit in chosen)


def flat(part: Any, kind: str, unit: int) -> Tensor:
    return torch.cat([line.detach().flatten() for line in slices(part, kind, unit)])


def zeros(parameters: dict[str, Tensor]) -> int:
    return sum(int((tensor == 0).sum()) for tensor in parameters.values())


def test_sublayers_and_layers_hold_their_projections() -> None:
    model = model_of(SHAPES)
    parameters = {name: tensor.detach() for name, tensor in model.named_parameters()}
    groups = {group.name: group for group in lines.groups(SHAPES)}
    attention_part, ffn = model.encoder.layers[0].self_attn, model.encoder.layers[0].ffn

    def square(part: Any) -> Tensor:
        linear = [entry for entry in part.modules() if isinstance(entry, torch.nn.Linear)]
        return torch.stack([entry.weight.square().sum() + entry.bias.square().sum() for entry in linear]).sum()

    parts = torch.stack([square(attention_part), square(ffn)]).detach()
    torch.testing.assert_close(lines.unit_square_norms(groups["encoder.0.sublayer"], parameters), parts)
    layers = lines.unit_square_norms(groups["encoder.layer"], parameters)
    torch.testing.assert_close(layers[0], parts.sum())
    torch.testing.assert_close(layers[1], square(model.encoder.layers[1].ffn).detach())
    with torch.no_grad():
        lines.zero_units(groups["encoder.0.sublayer"], [1], parameters)
    assert square(ffn) == 0
    assert square(attention_part) > 0


def test_a_layer_without_sublayers_has_norm_zero() -> None:
    empty = TPruneConfig(
        vocab_size=23,
        d_model=12,
        encoder_shapes=[{"self_attn": attention(0, 2, 2), "ffn": 0}, {"self_attn": attention(1, 2, 2), "ffn": 2}],
        decoder_shapes=[{"self_attn": attention(1, 2, 2), "cross_attn": attention(1, 2, 2), "ffn": 2}],
    )
    parameters = {name: tensor.detach() for name, tensor in model_of(empty).named_parameters()}
    groups = {group.name: group for group in lines.groups(empty)}
    norms = lines.unit_square_norms(groups["encoder.layer"], parameters)
    assert norms[0] == 0
    assert norms[1] > 0
    assert lines.unit_square_norms(groups["encoder.0.sublayer"], parameters).shape == (0,)


def test_blocks_are_the_weights_of_all_projections() -> None:
    expected = [
        name
        for name, module in model_of(SHAPES).named_modules()
        if isinstance(module, torch.nn.Linear) and ".layers." in name
    ]
    assert sorted(lines.blocks(SHAPES)) == sorted(f"{name}.weight" for name in expected)
    assert lines.component("decoder.layers.3.self_attn.q_proj.weight") == "decoder.3.self_attn.q_proj"


@pytest.mark.parametrize("place", ["encoder.layers.0.ffn", "decoder.layers.0.self_attn", "decoder.layers.0.cross_attn"])
def test_projections_read_the_stream_or_write_to_it(place: str) -> None:
    parts = dict(model_of(SHAPES).get_submodule(place).named_children())
    linear = {name: part for name, part in parts.items() if isinstance(part, torch.nn.Linear)}
    readers, writer = lines.projections(place.rpartition(".")[2])
    assert [*readers, writer] == list(linear)
    assert [name for name, part in linear.items() if part.in_features == SHAPES.d_model] == list(readers)
    assert [name for name, part in linear.items() if part.out_features == SHAPES.d_model] == [writer]


def test_unknown_kind_is_refused() -> None:
    with pytest.raises(InputError) as caught:
        lines.groups(config(), ("ffn", "column"))
    assert str(caught.value) == (
        "unknown kind of unit · got column · wanted ffn | qk | vo | head | sublayer | layer | hidden | vocab · "
        "use one of these"
    )


@pytest.mark.parametrize(("share", "kept"), [(0.5, 8), (0.6, 8), (0.7, 12), (0.01, 4), (1.0, 16)])
def test_widths_lie_on_the_grid(share: float, kept: int) -> None:
    assert lines.width_of_share(16, share, 4) == kept


def test_a_share_of_one_keeps_a_width_that_is_not_on_the_grid() -> None:
    assert [lines.width_of_share(100, share, 8) for share in (0.5, 0.99, 1.0)] == [48, 96, 100]
