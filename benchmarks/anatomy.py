"""What is inside the models: sparse lines, sensitivity and kept widths, as the report shows them.

Both the interactive figures and the pictures draw these views, so that they cannot disagree.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from tprune.errors import InputError
from tprune.section import problems


class _Given(BaseModel):
    model_config = ConfigDict(frozen=True)


class Block(_Given):
    """Share of sparse lines of one component after BSSL, for each axis."""

    component: str
    rows: float
    columns: float


class Masked(_Given):
    """Validation loss (nats per token) with a share of one component's units masked."""

    component: str
    kind: str
    share: float
    loss: float


class Intact(_Given):
    """Validation loss (nats per token) of the dense model."""

    loss: float


class Analysis(_Given):
    """What the report reads of a BSSL analysis."""

    components: tuple[Block, ...] = ()
    sensitivity: tuple[Masked, ...] = ()
    dense: Intact | None = None


class Attention(_Given):
    """Widths of one attention sub-layer; 0 heads = it is gone."""

    heads: int
    qk: int
    v: int


class Layer(_Given):
    """Widths of one layer; 0 = the sub-layer is gone."""

    self_attn: Attention
    cross_attn: Attention | None = None
    ffn: int


class Shape(_Given):
    """Widths of a model, layer by layer."""

    encoder: tuple[Layer, ...]
    decoder: tuple[Layer, ...]


@dataclass(frozen=True)
class Heat:
    """Share of sparse lines: layer (down) x projection (across) for both axes; None = no such block."""

    layers: tuple[str, ...]
    projections: tuple[str, ...]
    rows: tuple[tuple[float | None, ...], ...]
    columns: tuple[tuple[float | None, ...], ...]


@dataclass(frozen=True)
class Curve:
    """Rise of the validation loss over the share of one component's units that is masked."""

    component: str
    kind: str
    shares: tuple[float, ...]
    rises: tuple[float, ...]


@dataclass(frozen=True)
class Panel:
    """One width over the layers: the dense model's and a plan's (shorter when layers are gone)."""

    title: str
    line: int
    place: int
    dense: tuple[int, ...]
    kept: tuple[int, ...]


def read_analysis(analysis: Mapping[str, Any]) -> Analysis:
    """Check an analysis as it comes from its JSON file.

    Raises:
        InputError: Fields are missing or of another type.
    """
    try:
        return Analysis.model_validate(analysis)
    except ValidationError as error:
        raise InputError(
            "the analysis does not fit the report", problems=problems(error), fix="make it again with `tprune analyze`"
        ) from None


def heat(analysis: Analysis) -> Heat:
    """Lay the blocks out by layer and projection; the fullest layer gives the projections' order."""
    cells = {_place(block.component): block for block in analysis.components}
    sizes = Counter(layer for layer, _ in cells)
    layers = tuple(sizes)
    projections = tuple(dict.fromkeys(projection for _, projection in sorted(cells, key=lambda cell: -sizes[cell[0]])))

    def grid(axis: str) -> tuple[tuple[float | None, ...], ...]:
        return tuple(
            tuple(getattr(cells.get((layer, projection)), axis, None) for projection in projections) for layer in layers
        )

    return Heat(layers, projections, grid("rows"), grid("columns"))


def curves(analysis: Analysis) -> dict[str, list[Curve]]:
    """Sensitivity by kind of unit; every curve starts at nothing masked, nothing lost."""
    if analysis.dense is None:
        return {}
    groups: dict[tuple[str, str], dict[float, float]] = defaultdict(lambda: {0.0: 0.0})
    for masked in analysis.sensitivity:
        groups[masked.kind, masked.component][masked.share] = masked.loss - analysis.dense.loss
    found: dict[str, list[Curve]] = defaultdict(list)
    for (kind, component), rises in groups.items():
        shares = tuple(sorted(rises))
        found[kind].append(Curve(component, kind, shares, tuple(rises[share] for share in shares)))
    return dict(found)


def widths(shapes: Mapping[str, Mapping[str, Any]]) -> dict[str, list[Panel]]:
    """Kept widths of every plan against the dense model's.

    Raises:
        InputError: No `dense` shape, or shapes of another form.
    """
    if "dense" not in shapes:
        raise InputError(
            "shapes without the dense model's",
            got=", ".join(shapes) or "none",
            wanted="one named dense",
            fix="give the dense model's configuration too",
        )
    try:
        read = {name: Shape.model_validate(shape) for name, shape in shapes.items()}
    except ValidationError as error:
        raise InputError(
            "a shape does not fit the report", problems=problems(error), fix="give the models' configurations"
        ) from None
    dense = read.pop("dense")
    return {name: _panels(dense, shape) for name, shape in read.items()}


def _place(component: str) -> tuple[str, str]:
    """`decoder.3.self_attn.q_proj` is projection `self_attn.q_proj` of layer `decoder.3`."""
    found = re.match(r"((?:encoder|decoder)\.\d+)\.(.+)", component)
    return (found[1], found[2]) if found else ("other", component)


def _panels(dense: Shape, kept: Shape) -> list[Panel]:
    panels = []
    for line, (stack, name) in enumerate(
        (("encoder", "self_attn"), ("decoder", "self_attn"), ("decoder", "cross_attn"))
    ):
        for place, width in enumerate(("heads", "qk", "v")):
            sides = [
                tuple(
                    getattr(attention, width)
                    for layer in getattr(shape, stack)
                    if (attention := getattr(layer, name)) is not None
                )
                for shape in (dense, kept)
            ]
            panels.append(Panel(f"{stack} {name} {width}", line, place, *sides))
    for line, stack in enumerate(("encoder", "decoder")):
        sides = [tuple(layer.ffn for layer in getattr(shape, stack)) for shape in (dense, kept)]
        panels.append(Panel(f"{stack} ffn", line, 3, *sides))
    return panels
