"""Which random models a latency table is measured with, and how their times become its costs. Pure data, no clock.

A probe is a model whose layers hold nothing but one kind of sub-layer, several times over. One sub-layer's cost in
place is then (time of the probe - time of the model without layers) / copies. The output projection, and what is in no
layer, is what a model of one decoder layer takes besides that layer: without any layer it would find its weights in the
cache, where a step of a whole model leaves none of them. Whole models, a shallow and the largest one, tell what is left
between the sum of the parts and a model. Any machine that can time a model may fill a table: it gets models and
lengths, and gives the median time of every round.
"""

from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np

from tprune.benchmarks.table import FIXED, OUTPUT, Surface
from tprune.model.shape import TPruneConfig, attention_shape
from tprune.sparsity import lines

DECODER_ATTENTIONS = ("decoder.self_attn", "decoder.cross_attn")
ATTENTIONS = ("encoder.self_attn", *DECODER_ATTENTIONS)
FFNS = ("encoder.ffn", "decoder.ffn")
BASE, ANCHOR = "base", "anchor"
WHOLE = "whole"
SPECIAL = {
    "pad_token_id": 0,
    "eos_token_id": 1,
    "decoder_start_token_id": 0,
    "bos_token_id": None,
    "forced_bos_token_id": None,
}
"""Token ids of random models, before those of their sentences' words."""
METHOD = 4  # counts up when other models are timed, or other costs made of their times

Times = Mapping[str, Sequence[float]]
"""By the task's name: the median of each round in ms, all tasks of a group timed in turn."""


@dataclass(frozen=True)
class Grid:
    """The widths that are measured; each axis rises."""

    d_model: tuple[int, ...]
    heads: tuple[int, ...]
    width: tuple[int, ...]
    """Of a head's queries and keys, and of its values."""
    ffn: tuple[int, ...]
    vocabulary: tuple[int, ...]
    """Tokens of the output projection."""


@dataclass(frozen=True)
class Task:
    """One model to time: a sentence of the table's source length into `target_tokens` tokens."""

    name: str
    config: TPruneConfig
    target_tokens: int


@dataclass(frozen=True)
class Group:
    """Tasks that are timed in turn, at one d_model; the first is the model without layers."""

    name: str
    d_model: int
    tasks: tuple[Task, ...]


def grid_for(config: TPruneConfig, d_models: Sequence[int] = (), points: int = 3, least: int = 8) -> Grid:
    """A grid from a model's own widths down to one head, the least width and an eighth of the vocabulary.

    Args:
        config: The largest model that the table has to predict.
        d_models: Widths of the residual stream besides the model's own.
        points: Most positions of an axis: the least, and the largest with its halves.
        least: Least width of a head and of a feed-forward network.
    """
    layers = [layer for stack in lines.STACKS for layer in lines.layer_shapes(config, stack)]
    shapes = [shape for layer in layers for shape in layer.values() if lines.is_there(shape)]
    attentions = [shape for shape in shapes if isinstance(shape, Mapping)]
    heads = [width for shape in attentions for width in (shape["qk"], shape["v"])]
    networks = [shape for shape in shapes if not isinstance(shape, Mapping)] or [least]
    vocabulary = config.output_size
    return Grid(
        tuple(sorted({config.d_model, *d_models})),
        _halved(max(shape["heads"] for shape in attentions), 1, points),
        _halved(max(heads), min(least, *heads), points),
        _halved(max(networks), min(least, *networks), points),
        _halved(vocabulary, vocabulary // 8, points),
    )


def groups(like: TPruneConfig, grid: Grid, target_tokens: int, copies: int) -> list[Group]:
    """All models to time, in groups that are worth interrupting between.

    Args:
        like: Its conventions, as norms and activation, are those of the probes.
        grid: Widths to measure.
        target_tokens: Length of the translations.
        copies: Sub-layers in a probe.
    """
    found = []
    for d_model in grid.d_model:
        base = Task(BASE, _model(like, grid, d_model), target_tokens)
        outputs = [base]
        if d_model != grid.d_model[-1]:
            outputs.append(Task(ANCHOR, _model(like, grid, grid.d_model[-1]), target_tokens))
        for size in grid.vocabulary:
            in_place = _model(like, grid, d_model, {"decoder": _whole_layers(grid)["decoder"]}, size)
            outputs.append(Task(_name(OUTPUT, vocabulary=size), in_place, target_tokens))
        found.append(Group(f"{OUTPUT} {d_model}", d_model, tuple(outputs)))
        for part in (*ATTENTIONS, *FFNS):
            probes = (
                Task(_name(part, **at), _model(like, grid, d_model, _copied(part, at, copies)), target_tokens)
                for at in _points(part, grid)
            )
            found.append(Group(f"{part} {d_model}", d_model, (base, *probes)))
    widest = grid.d_model[-1]
    base = Task(BASE, _model(like, grid, widest), target_tokens)
    whole = (Task(name, config, target_tokens) for name, config in whole_models(like, grid).items())
    return [*found, Group(f"{WHOLE} {widest}", widest, (base, *whole))]


def depths(config: TPruneConfig) -> dict[str, int]:
    """Layers of each stack."""
    return {stack: len(lines.layer_shapes(config, stack)) for stack in lines.STACKS}


def with_tokens(config: TPruneConfig, size: int) -> TPruneConfig:
    """A copy with one embedding of so many tokens and special ids within it: a small one need not hold its own."""
    changed = deepcopy(config)
    changed.vocab_size, changed.target_vocab_size, changed.output_vocab_size = size, None, None
    for name, token in SPECIAL.items():
        setattr(changed, name, token)
    return changed


def whole_models(like: TPruneConfig, grid: Grid) -> dict[str, TPruneConfig]:
    """Models by which the sum of all parts is held against a whole: of one layer a stack, and as deep as `like`."""
    layer = _whole_layers(grid)
    deep = {stack: layer[stack] * depth for stack, depth in depths(like).items()}
    return {
        f"{WHOLE} shallow": _model(like, grid, grid.d_model[0], layer),
        f"{WHOLE} deep": _model(like, grid, grid.d_model[-1], deep),
    }


def surfaces(grid: Grid, times: Mapping[str, Times], copies: int) -> dict[str, Surface]:
    """Costs from times.

    Within a group every probe is compared with the model without layers round by round, so that the machine's drift
    from group to group cancels; models without layers of all d_model are compared with the widest in the same way. A
    cost is at least 0.

    Args:
        grid: What was measured.
        times: By the group's name.
        copies: Sub-layers in a probe.
    """
    anchor_ms = _anchor_ms(grid, times)
    found: dict[str, list[Any]] = {}
    for d_model in grid.d_model:
        own = {name.removesuffix(f" {d_model}"): one for name, one in times.items() if name.endswith(f" {d_model}")}
        anchored = own[OUTPUT].get(ANCHOR, own[OUTPUT][BASE])
        base_ms = anchor_ms * float(np.median(np.divide(own[OUTPUT][BASE], anchored)))
        for part, value in _costs(grid, own, base_ms, copies).items():
            found.setdefault(part, []).append(value)
    return {part: Surface(axes=_axes(part, grid), ms=values) for part, values in found.items()}


def whole_ms(grid: Grid, times: Mapping[str, Times]) -> dict[str, float]:
    """Milliseconds of the whole models, by name, compared with the model without layers as costs are."""
    own = times[f"{WHOLE} {grid.d_model[-1]}"]
    anchor_ms = _anchor_ms(grid, times)
    return {
        name: anchor_ms * float(np.median(np.divide(rounds, own[BASE]))) for name, rounds in own.items() if name != BASE
    }


def _anchor_ms(grid: Grid, times: Mapping[str, Times]) -> float:
    """Of the widest model without layers, over all groups that hold it."""
    widest = [rounds[BASE] for name, rounds in times.items() if name.endswith(f" {grid.d_model[-1]}")]
    return float(np.median([np.median(rounds) for rounds in widest]))


def _costs(grid: Grid, times: Mapping[str, Times], base_ms: float, copies: int) -> dict[str, Any]:
    """What `surfaces` gives, at one d_model and as nested lists; `times` by the component of the group."""

    def ms(part: str, name: str) -> float:
        return base_ms * float(np.median(np.divide(times[part][name], times[part][BASE])))

    def cost(part: str, **at: int) -> float:
        return max(0.0, (ms(part, _name(part, **at)) - base_ms) / copies)

    # the model without layers has one narrow cross-attention: without any, nothing reads the source
    layer = cost("decoder.cross_attn", heads=grid.heads[0], width=grid.width[0])
    layer += sum(cost(part, heads=grid.heads[-1], width=grid.width[-1]) for part in DECODER_ATTENTIONS)
    layer += cost("decoder.ffn", width=grid.ffn[-1])
    whole = [max(0.0, ms(OUTPUT, _name(OUTPUT, vocabulary=size)) - layer) for size in grid.vocabulary]
    # no vocabulary at all: along the line through all that were measured
    fixed = min(max(0.0, float(np.polynomial.Polynomial.fit(grid.vocabulary, whole, 1)(0))), *whole)
    return {
        **{
            part: [[cost(part, heads=heads, width=width) for width in grid.width] for heads in grid.heads]
            for part in ATTENTIONS
        },
        **{part: [cost(part, width=width) for width in grid.ffn] for part in FFNS},
        OUTPUT: [entry - fixed for entry in whole],
        FIXED: fixed,
    }


def _halved(largest: int, least: int, points: int) -> tuple[int, ...]:
    """The largest, its halves, and the least; at most so many."""
    halves = {largest >> power for power in range(points - 1)}
    return tuple(sorted({min(least, largest), *(half for half in halves if half > least)}))


def _axes(part: str, grid: Grid) -> dict[str, tuple[int, ...]]:
    own: dict[str, tuple[int, ...]] = {}
    if part in ATTENTIONS:
        own = {"heads": grid.heads, "width": grid.width}
    elif part in FFNS:
        own = {"width": grid.ffn}
    elif part == OUTPUT:
        own = {"vocabulary": grid.vocabulary}
    return {"d_model": grid.d_model, **own}


def _points(part: str, grid: Grid) -> Iterator[dict[str, int]]:
    if part in FFNS:
        yield from ({"width": width} for width in grid.ffn)
    else:
        yield from ({"heads": heads, "width": width} for heads in grid.heads for width in grid.width)


def _name(part: str, **at: int) -> str:
    return " ".join([part, *(f"{axis}={position}" for axis, position in at.items())])


def _copied(part: str, at: Mapping[str, int], copies: int) -> dict[str, list[dict[str, Any]]]:
    stack, _, name = part.partition(".")
    shape = at["width"] if name == "ffn" else attention_shape(at["heads"], at["width"])
    return {stack: [{name: shape}] * copies}


def _whole_layers(grid: Grid) -> dict[str, list[dict[str, Any]]]:
    """The largest layer of each stack."""
    attention, ffn = attention_shape(grid.heads[-1], grid.width[-1]), grid.ffn[-1]
    return {
        "encoder": [{"self_attn": attention, "ffn": ffn}],
        "decoder": [{"self_attn": attention, "cross_attn": attention, "ffn": ffn}],
    }


def _model(
    like: TPruneConfig,
    grid: Grid,
    d_model: int,
    layers: Mapping[str, Sequence[Mapping[str, Any]]] | None = None,
    vocabulary: int | None = None,
) -> TPruneConfig:
    """A model without layers but for those given, by stack; a sub-layer that is not named is gone."""
    config = with_tokens(like, grid.vocabulary[-1] if vocabulary is None else vocabulary)
    config.d_model = d_model
    narrow = attention_shape(grid.heads[0], grid.width[0])
    gone = {**narrow, "heads": 0}
    empty: dict[str, dict[str, Any]] = {
        "encoder": {"self_attn": gone, "ffn": 0},
        "decoder": {"self_attn": gone, "cross_attn": gone, "ffn": 0},
    }
    shapes = {"encoder": [empty["encoder"]], "decoder": [{**empty["decoder"], "cross_attn": narrow}]}
    for stack, added in (layers or {}).items():
        shapes[stack] += [{**empty[stack], **layer} for layer in added]
    config.encoder_shapes, config.decoder_shapes = shapes["encoder"], shapes["decoder"]
    return config
