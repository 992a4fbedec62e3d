"""Block-wise Structured Sparsity Learning: which component becomes sparse, on which axis, at what price.

Every block is regularized by a group lasso of its own, on rows and on columns, for a short run;
then the share of lines under a relative threshold is read off each block and axis. Sensitivity is
the validation loss when a share of one component's units is masked in the dense model.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tprune.errors import InputError, shown
from tprune.json_file import read_json, write_json
from tprune.model.shape import TPruneConfig
from tprune.model.transformer import TPruneForConditionalGeneration
from tprune.sparsity import lines, plan, surgery
from tprune.sparsity.lines import Group
from tprune.sparsity.penalties import EPS

Measure = Callable[[TPruneForConditionalGeneration], Mapping[str, float | None]]
"""Gives {"loss": nats a token, "bleu": score or None} of a model."""


class BlockLasso:
    """The decoupled step of every block's own group lasso, on its rows and on its columns.

    Proximal and relative as in `penalties.Decoupled`: a line of norm n loses lr * weight * m, with m
    the mean norm of the block's lines on that axis, and stops at zero.
    """

    def __init__(self, model: TPruneForConditionalGeneration, weight: float) -> None:
        parameters = dict(model.named_parameters())
        self.blocks = [parameters[name] for name in lines.blocks(model.config)]
        self.weight = weight

    @torch.no_grad()
    def __call__(self, learning_rate: float) -> None:
        """Shrink every line of every block once."""
        for block in self.blocks:
            rows, columns = _shrinkage(block, 1), _shrinkage(block, 0)
            block.mul_((1 - learning_rate * self.weight * rows).clamp_min(0)[:, None])
            block.mul_((1 - learning_rate * self.weight * columns).clamp_min(0)[None, :])


def sparse_lines(model: TPruneForConditionalGeneration, threshold: float) -> list[dict[str, Any]]:
    """Share of sparse lines per component and axis.

    A line is sparse when its norm is under `threshold` times the mean norm of its block's lines.

    Returns:
        One dict a block: component, rows, columns (shares), lines_rows, lines_columns (counts).
    """
    parameters = dict(model.named_parameters())
    table = []
    for name in lines.blocks(model.config):
        block = parameters[name].detach()
        rows, columns = block.norm(dim=1), block.norm(dim=0)
        table.append(
            {
                "component": lines.component(name),
                "rows": _share_under(rows, threshold),
                "columns": _share_under(columns, threshold),
                "lines_rows": len(rows),
                "lines_columns": len(columns),
            }
        )
    return table


def sensitivity(
    model: TPruneForConditionalGeneration,
    shares: Sequence[float],
    measure: Measure,
    scratch: Path,
    progress: Callable[[str], None] = lambda _: None,
) -> list[dict[str, Any]]:
    """Loss and BLEU with a share of one component's units masked, weakest units first.

    Every group's measurements are a file in `scratch`, and what is there is not measured again.

    Args:
        model: Dense model; unchanged afterwards.
        shares: Shares of units to mask in every ffn, qk, vo and head group. Sub-layers and layers
            are masked whole, one at a time.
        measure: Measures a model.
        scratch: Folder of this model, these shares and this measure alone.
        progress: Called with the name of each group that is measured.

    Returns:
        One dict a measurement: component (the group), kind, share, loss, bleu; for sub-layers and
        layers also `unit`.
    """
    table: list[dict[str, Any]] = []
    for group in lines.groups(model.config, lines.PART_KINDS):
        saved = scratch / f"sensitivity {group.name}.json"
        if not saved.exists():
            progress(group.name)
            whole = group.kind in ("sublayer", "layer")
            found = _whole_units(model, group, measure) if whole else _shares(model, group, shares, measure)
            write_json(saved, found)
        table += read_json(saved)
    return table


def importance(analysis: Mapping[str, Any]) -> dict[str, float]:
    """Loss increase, in nats a token, by width group when about half of it is masked; at least a small floor."""
    dense = analysis["dense"]["loss"]
    found: dict[str, float] = {}
    for kind in lines.WIDTH_KINDS:
        entries = [entry for entry in analysis["sensitivity"] if entry["kind"] == kind]
        nearest = min((entry["share"] for entry in entries), key=lambda share: abs(share - 0.5), default=0.5)
        found |= {entry["component"]: entry["loss"] - dense for entry in entries if entry["share"] == nearest}
    floor = 0.05 * float(np.median(list(found.values()) or [0.0]))
    return {name: max(value, floor, 1e-6) for name, value in found.items()}


def layer_importance(analysis: Mapping[str, Any]) -> dict[str, list[float]]:
    """Loss increase by stack ("encoder.layer", "decoder.layer") when one layer is left out, in order."""
    found: dict[str, list[float]] = {}
    for entry in analysis["sensitivity"]:
        if entry["kind"] == "layer":
            found.setdefault(entry["component"], []).append(entry["loss"] - analysis["dense"]["loss"])
    return found


def sublayer_importance(analysis: Mapping[str, Any]) -> dict[str, list[float]]:
    """Loss increase by group ("encoder.0.sublayer") when one sub-layer is left out, in order; at least a floor."""
    found: dict[str, list[float]] = {}
    for entry in analysis["sensitivity"]:
        if entry["kind"] == "sublayer":
            found.setdefault(entry["component"], []).append(entry["loss"] - analysis["dense"]["loss"])
    floor = max(0.05 * float(np.median([value for values in found.values() for value in values] or [0.0])), 1e-6)
    return {name: [max(value, floor) for value in values] for name, values in found.items()}


def require_of(analysis: Mapping[str, Any], config: TPruneConfig, where: object) -> None:
    """Refuse findings about a model with other layers or sub-layers.

    Args:
        analysis: BSSL's findings, after those of earlier cuts were `carried`.
        config: The model that they are used for.
        where: The analysis' path, for the error.

    Raises:
        InputError: A component was not measured, or has fewer or more units than were left out.
    """
    units = Counter(entry["component"] for entry in analysis["sensitivity"] if "unit" in entry)
    widths = {entry["component"] for entry in analysis["sensitivity"] if "unit" not in entry}
    problems = []
    for group in lines.groups(config, lines.PART_KINDS):
        if group.kind in ("sublayer", "layer"):
            measured = units[group.name] or 1 if group.kind == "layer" else units[group.name]  # never the only one
            if measured != group.size:
                problems.append(f"{group.name}: the analysis has {measured}, the model {group.size}")
        elif widths and group.name not in widths:  # a sensitivity without any shares counts all alike
            problems.append(f"{group.name}: not in the analysis")
    if problems:
        raise InputError(
            "an analysis of another model",
            where=where,
            problems=shown(problems),
            fix="analyze the model that is cut: `tprune analyze MODEL CORPUS`, or give no analysis",
        )


def carried(analysis: Mapping[str, Any], chosen: plan.Plan) -> dict[str, Any]:
    """The findings under the names that components have after the cut; those of dropped layers are gone."""
    layers = {stack: chosen.keep.get(f"{stack}.layer") for stack in lines.STACKS}

    def moved(entry: Mapping[str, Any]) -> dict[str, Any] | None:
        component, unit = entry["component"], entry.get("unit")
        kept = chosen.keep.get(component)
        if unit is not None and kept is not None:
            if unit not in kept:
                return None
            entry = {**entry, "unit": kept.index(unit)}
        stack, _, rest = component.partition(".")
        layer, dot, part = rest.partition(".")
        alive = layers.get(stack)
        if not dot or alive is None:
            return dict(entry)
        if int(layer) not in alive:
            return None
        return {**entry, "component": f"{stack}.{alive.index(int(layer))}.{part}"}

    return {
        key: [again for entry in value if (again := moved(entry)) is not None] if isinstance(value, list) else value
        for key, value in analysis.items()
    }


def strengths(
    groups: Sequence[Group],
    weight: float,
    analysis: Mapping[str, Any] | None,
    costs: Mapping[str, float] | None = None,
) -> dict[str, float]:
    """Penalty strength per group: `weight`, twice where little loss buys much time, half where much loss buys little.

    In between it is the root of what the group buys for its loss, over the median of all groups.

    Args:
        groups: What the penalty acts on.
        weight: Strength in the middle.
        analysis: BSSL's findings, for the loss (nats a token); None: all groups lose alike.
        costs: d(latency)/d(unit) by group in milliseconds; None: all groups cost alike.
    """
    measured = importance(analysis) if analysis else {}
    loss = _over_median({group.name: measured[group.name] for group in groups if group.name in measured})
    # one loss is that of half of the group's units, so what it buys is their time too
    time = _over_median({group.name: costs[group.name] * group.size for group in groups} if costs else {})
    return {
        group.name: weight * float(np.clip(np.sqrt(time.get(group.name, 1.0) / loss.get(group.name, 1.0)), 0.5, 2.0))
        for group in groups
    }


def _over_median(values: Mapping[str, float]) -> dict[str, float]:
    middle = max(float(np.median(list(values.values()) or [1.0])), 1e-30)
    return {name: max(value, 0.0) / middle for name, value in values.items()}


def _shrinkage(block: Tensor, axis: int) -> Tensor:
    norms: Tensor = block.norm(dim=axis)
    return norms.mean() / norms.clamp_min(EPS)


def _share_under(norms: Tensor, threshold: float) -> float:
    return float((norms < threshold * norms.mean()).float().mean())


def _shares(
    model: TPruneForConditionalGeneration, group: Group, shares: Sequence[float], measure: Measure
) -> list[dict[str, Any]]:
    parameters, table = dict(model.named_parameters()), []
    order = lines.unit_square_norms(group, parameters).detach().argsort(stable=True).tolist()
    for share in shares:
        with _masked(group, order[: round(share * group.size)], parameters):
            table.append({"component": group.name, "kind": group.kind, "share": share, **measure(model)})
    return table


def _whole_units(model: TPruneForConditionalGeneration, group: Group, measure: Measure) -> list[dict[str, Any]]:
    table = []
    for unit in range(group.size):
        rest = tuple(other for other in range(group.size) if other != unit)
        if not rest and group.kind == "layer":
            continue
        without = surgery.prune(model, plan.make("without", model.config, {group.name: rest}, {}))
        table.append({"component": group.name, "kind": group.kind, "unit": unit, "share": 1.0, **measure(without)})
    return table


@contextmanager
def _masked(group: Group, units: list[int], parameters: Mapping[str, Tensor]) -> Iterator[None]:
    kept = {member.parameter: parameters[member.parameter].detach().clone() for member in group.members[0]}
    with torch.no_grad():
        lines.zero_units(group, units, parameters)
        try:
            yield
        finally:
            for name, tensor in kept.items():
                parameters[name].copy_(tensor)
