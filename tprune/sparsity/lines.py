"""What a unit is: the only place that knows which lines of which parameters go together.

In torch's Linear layout (out x in) the inner lines are the rows of Q, K, V and fc1 and the columns
of O and fc2. A group is a set of units of one kind in one place, numbered from 0; unit u of a
group covers positions u*width ... (u+1)*width - 1 of every member's axis.

| kind     | one group per   | a unit                                                        |
|----------|-----------------|---------------------------------------------------------------|
| ffn      | feed-forward    | row of fc1, its bias, column of fc2                           |
| qk       | attention       | row of Q and of K with their biases, in one head              |
| vo       | attention       | row of V, its bias, column of O, in one head                  |
| head     | attention       | all qk and vo units of a head                                 |
| sublayer | layer           | everything in a sub-layer                                     |
| layer    | stack           | everything in a layer                                         |
| hidden   | model           | dimension of the residual stream: column of what reads it and |
|          |                 | of embeddings, row of what writes it, its bias, part of norms |
| vocab    | vocabulary      | row of the embedding: a token that can be read                |
| vocab    | output          | row of the output projection, its bias: one that can be said  |

With one vocabulary for both sides, the tokens that can be said are the first rows of the embedding: cutting them
brings them into an order of their own, see `tprune.sparsity.plan.order`.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tprune.errors import InputError
from tprune.model.shape import TPruneConfig

PART_KINDS = ("ffn", "qk", "vo", "head", "sublayer", "layer")  # of parts of the network
KINDS = (*PART_KINDS, "hidden", "vocab")
WIDTH_KINDS = ("ffn", "qk", "vo")
VOCAB, OUTPUT, HIDDEN = "vocab", "output", "hidden"  # groups of the whole model; the first two are of kind vocab
STACKS = ("encoder", "decoder")


@dataclass(frozen=True)
class Member:
    """One parameter's part in a group: `width` consecutive positions of `axis` for each unit."""

    parameter: str
    axis: int
    width: int = 1
    learned: bool = True
    """Sinusoidal positions are cut with the others, and say nothing of how much a unit matters."""


@dataclass(frozen=True)
class Group:
    """Units of one kind in one place; `heads` > 1 says that units are laid out head by head."""

    name: str
    kind: str
    size: int
    members: tuple[tuple[Member, ...], ...]
    """For ffn, qk, vo and head one tuple that all units share; for sublayer and layer one a unit."""
    heads: int = 1


def groups(config: TPruneConfig, kinds: tuple[str, ...] = KINDS) -> list[Group]:
    """All groups of the given kinds, in the order of the network.

    Raises:
        InputError: An unknown kind.
    """
    if unknown := set(kinds) - set(KINDS):
        raise InputError(
            "unknown kind of unit", got=", ".join(sorted(unknown)), wanted=" | ".join(KINDS), fix="use one of these"
        )
    found = []
    for stack in STACKS:
        shapes = layer_shapes(config, stack)
        for index, shape in enumerate(shapes):
            for sublayer in shape:
                found += _width_groups(stack, index, sublayer, shape[sublayer])
            parts = tuple(_members(stack, index, sublayer) for sublayer in shape if is_there(shape[sublayer]))
            found.append(Group(f"{stack}.{index}.sublayer", "sublayer", len(parts), parts))
        whole = tuple(
            sum((_members(stack, index, sublayer) for sublayer in shape if is_there(shape[sublayer])), ())
            for index, shape in enumerate(shapes)
        )
        found.append(Group(f"{stack}.layer", "layer", len(shapes), whole))
    found += [_hidden(config), *_vocabularies(config)]
    return [group for group in found if group.kind in kinds]


def layer_shapes(config: TPruneConfig, stack: str) -> list[dict[str, Any]]:
    """The shapes of "encoder" or "decoder"."""
    shapes = config.encoder_shapes if stack == "encoder" else config.decoder_shapes
    return shapes or []


def is_there(shape: Any) -> bool:
    """Whether a sub-layer of this shape exists."""
    return bool(shape["heads"] if isinstance(shape, Mapping) else shape)


def sublayers(shape: Mapping[str, Any]) -> list[str]:
    """Names of the sub-layers a layer has, in the order of the `sublayer` group's units."""
    return [name for name in shape if is_there(shape[name])]


def module_name(stack: str, layer: int, sublayer: str) -> str:
    """State-dict prefix of a sub-layer."""
    return f"{stack}.layers.{layer}.{sublayer}"


def projections(sublayer: str) -> tuple[tuple[str, ...], str]:
    """A sub-layer's projections: those that read a residual stream, and the one that writes to its own."""
    return (("fc1",), "fc2") if sublayer == "ffn" else (("q_proj", "k_proj", "v_proj"), "o_proj")


def component(parameter: str) -> str:
    """The field's name of a weight: `decoder.layers.3.self_attn.q_proj.weight` -> `decoder.3.self_attn.q_proj`."""
    return parameter.replace(".layers.", ".").removesuffix(".weight")


def blocks(config: TPruneConfig) -> list[str]:
    """Parameter names of every block (2-d weight of a projection), in the order of the network."""
    names = []
    for stack in STACKS:
        for index, shape in enumerate(layer_shapes(config, stack)):
            for sublayer in sublayers(shape):
                prefix, (readers, writer) = module_name(stack, index, sublayer), projections(sublayer)
                names += [f"{prefix}.{part}.weight" for part in (*readers, writer)]
    return names


def unit_square_norms(group: Group, parameters: Mapping[str, Tensor]) -> Tensor:
    """Squared joint norm of every unit's coupled lines: (size,); differentiable."""
    if group.kind in ("sublayer", "layer"):
        return _per_whole_unit(group, parameters, lambda name: parameters[name].square().sum())
    return _sum(
        _per_unit(parameters[member.parameter].square(), member, group.size)
        for member in group.members[0]
        if member.learned
    )


def unit_products(group: Group, left: Mapping[str, Tensor], right: Mapping[str, Tensor]) -> Tensor:
    """Sum of left * right over every unit's lines: (size,)."""
    if group.kind in ("sublayer", "layer"):
        return _per_whole_unit(group, left, lambda name: (left[name] * right[name]).sum())
    return _sum(
        _per_unit(left[member.parameter] * right[member.parameter], member, group.size)
        for member in group.members[0]
        if member.learned
    )


def zero_units(group: Group, units: list[int], parameters: Mapping[str, Tensor]) -> None:
    """Hard-zero the lines of these units in place."""
    for unit in units:
        for member in group.members[unit if group.kind in ("sublayer", "layer") else 0]:
            tensor = parameters[member.parameter]
            if group.kind in ("sublayer", "layer"):
                tensor.zero_()
            else:
                tensor.narrow(member.axis, unit * member.width, member.width).zero_()


def _sum(parts: Iterator[Tensor]) -> Tensor:
    total = next(parts)
    for part in parts:
        total = total + part
    return total


def _per_whole_unit(group: Group, parameters: Mapping[str, Tensor], measure: Callable[[str], Tensor]) -> Tensor:
    # a unit may be empty: a layer whose sub-layers are all gone
    zero = next(iter(parameters.values())).new_zeros(())
    units = [sum((measure(member.parameter) for member in unit), zero) for unit in group.members]
    return torch.stack(units) if units else zero.expand(0)


def width_of_share(size: int, share: float, grid: int) -> int:
    """The width nearest to a share of `size` units, a multiple of `grid`, which is the least; all of it for 1."""
    if share == 1:  # a full width need not lie on the grid
        return size
    return min(size, max(round(share * size / grid) * grid, grid))


def _per_unit(values: Tensor, member: Member, size: int) -> Tensor:
    return values.movedim(member.axis, 0).reshape(size, -1).sum(dim=1)


def _width_groups(stack: str, index: int, sublayer: str, shape: Any) -> list[Group]:
    if not is_there(shape):
        return []
    prefix, name = module_name(stack, index, sublayer), f"{stack}.{index}.{sublayer}"
    if sublayer == "ffn":
        lines = (Member(f"{prefix}.fc1.weight", 0), Member(f"{prefix}.fc1.bias", 0), Member(f"{prefix}.fc2.weight", 1))
        return [Group(name, "ffn", shape, (lines,))]
    heads, qk, v = shape["heads"], shape["qk"], shape["v"]

    def qk_lines(width: int) -> tuple[Member, ...]:
        return tuple(
            Member(f"{prefix}.{part}", 0, width)
            for part in ("q_proj.weight", "q_proj.bias", "k_proj.weight", "k_proj.bias")
        )

    def vo_lines(width: int) -> tuple[Member, ...]:
        return (
            Member(f"{prefix}.v_proj.weight", 0, width),
            Member(f"{prefix}.v_proj.bias", 0, width),
            Member(f"{prefix}.o_proj.weight", 1, width),
        )

    return [
        Group(f"{name}.head", "head", heads, (qk_lines(qk) + vo_lines(v),)),
        Group(f"{name}.qk", "qk", heads * qk, (qk_lines(1),), heads),
        Group(f"{name}.vo", "vo", heads * v, (vo_lines(1),), heads),
    ]


def _hidden(config: TPruneConfig) -> Group:
    tables = ["embed", *([] if config.target_vocab_size is None else ["target_embed"])]
    tables += [] if config.tie_output else ["lm_head"]
    learned = config.positions == "learned"
    members = [Member(f"{name}.weight", 1) for name in tables]
    positions = ["positions", *(["target_positions"] if learned else [])]
    members += [Member(f"{name}.weight", 1, learned=learned) for name in positions]
    norms = []
    for stack in STACKS:
        norms += [f"{stack}.{name}" for name in ("embedding_norm", "final_norm") if getattr(config, name)]
        for index, shape in enumerate(layer_shapes(config, stack)):
            for sublayer in sublayers(shape):
                prefix = module_name(stack, index, sublayer)
                norms.append(f"{prefix}.norm")
                readers, writer = projections(sublayer)
                members += [Member(f"{prefix}.{reader}.weight", 1) for reader in readers]
                members += [Member(f"{prefix}.{writer}.{kind}", 0) for kind in ("weight", "bias")]
    members += [Member(f"{norm}.{kind}", 0) for norm in norms for kind in ("weight", "bias")]
    return Group(HIDDEN, "hidden", config.d_model, (tuple(members),))


def _vocabularies(config: TPruneConfig) -> list[Group]:
    shared = config.target_vocab_size is None
    said = [
        *([] if shared else ["target_embed.weight"]),
        *([] if config.tie_output else ["lm_head.weight"]),
        *(["output_bias"] if config.output_bias else []),
    ]
    return [
        Group(VOCAB, "vocab", config.vocab_size, ((Member("embed.weight", 0),),)),
        Group(OUTPUT, "vocab", config.output_size, (tuple(Member(name, 0) for name in said),)),
    ]


def _members(stack: str, index: int, sublayer: str) -> tuple[Member, ...]:
    """All parameters of a sub-layer, for units that go as a whole; output bias included."""
    prefix, (readers, writer) = module_name(stack, index, sublayer), projections(sublayer)
    return tuple(Member(f"{prefix}.{part}.{kind}", 0) for part in (*readers, writer) for kind in ("weight", "bias"))
