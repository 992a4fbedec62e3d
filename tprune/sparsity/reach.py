"""What budgets a model can be cut to at all, known before anything is trained.

Uniform and global leave one chunk of the grid in every group, the embeddings, and the output projection: with a large
vocabulary most of the smallest model is what no plan touches.
"""

import copy
from collections.abc import Iterable, Mapping
from math import ceil
from typing import Any

from tprune.config import Target
from tprune.delivery_config import MEASURE, Table
from tprune.errors import PlanError
from tprune.model.shape import TPruneConfig
from tprune.sparsity import cost, lines, rotation

BUDGET_FIX = (
    "raise keep, lower grid, drop layers (drop_encoder_layers, drop_decoder_layers), or trim the vocabulary where the "
    "tokenizer can be"
)
TABLE_FIX = "raise grid or lower table.least_width, and name the width of the stream in table.d_models"
BUDGETED = ("uniform", "global")
"""Planners whose budget is a share of the dense model."""


def require(config: TPruneConfig, targets: Iterable[Target], table: Table) -> None:
    """Refuse targets that no plan for this model can meet, whatever its weights.

    Args:
        config: The dense model's configuration.
        targets: Those of a recipe.
        table: The latency table that is filled for targets of the table MEASURE.

    Raises:
        PlanError: Layers to drop that are not there, budgets of parameters or FLOPs under those of the smallest model,
            or widths that the latency table will not have; all of them at once.
    """
    found, unmeasured = [], []
    for target in targets:
        found += _too_deep(config, target) or (_unmet(config, target) if target.planner in BUDGETED else [])
        unmeasured += _unmeasured(config, target, table) if target.table == MEASURE else []
    if found or unmeasured:
        raise PlanError(
            "targets that this model cannot be cut to",
            problems=[*found, *unmeasured],
            fix="; ".join([BUDGET_FIX] * bool(found) + [TABLE_FIX] * bool(unmeasured)),
        )


def least(config: TPruneConfig, target: Target, number: int | None = None) -> int:
    """Parameters or FLOPs of the smallest model that a target's planner can reach.

    Args:
        config: The dense model's configuration.
        target: Grid, layers to drop, tokens and dimensions to do without. Tokens are counted on the text, so that of
            a trimmed vocabulary nothing is counted here.
        number: The round, from 1; None: the last one.
    """
    number = number or target.rounds
    base = _trimmed(config, target)
    shapes = {}
    for stack, drop in _drops(target).items():
        layers = [
            {name: _narrowest(shape, target.grid) for name, shape in layer.items()}
            for layer in lines.layer_shapes(base, stack)
        ]
        layers.sort(key=lambda layer: _cost(base, target.budget, stack, layer))
        shapes[stack] = layers[: len(layers) - ceil(drop * number / target.rounds)]
    return cost.total(base, target.budget, shapes)


def _too_deep(config: TPruneConfig, target: Target) -> list[str]:
    depths = {stack: len(lines.layer_shapes(config, stack)) for stack in lines.STACKS}
    return [
        f"target {target.name}: drops {drop} of {depths[stack]} {stack} layers, of which one has to stay"
        for stack, drop in _drops(target).items()
        if drop >= depths[stack]
    ]


def _unmeasured(config: TPruneConfig, target: Target, table: Table) -> list[str]:
    found = []
    if target.grid < table.least_width:
        found.append(f"target {target.name}: grid = {target.grid}, where table.least_width is {table.least_width}")
    width, narrowest = _trimmed(config, target).d_model, min({config.d_model, *table.d_models})
    if width < narrowest:
        found.append(
            f"target {target.name}: hidden leaves {width} dimensions, where the narrowest stream of the table has "
            f"{narrowest}"
        )
    return found


def _unmet(config: TPruneConfig, target: Target) -> list[str]:
    whole = cost.total(config, target.budget)
    for number in range(1, target.rounds + 1):
        share, keep = least(config, target, number) / whole, target.keep ** (number / target.rounds)
        if share > keep:
            when = f" of round {number}" if target.rounds > 1 else ""
            return [
                f"target {target.name}: keep = {target.keep:g} of the {target.budget}, where the smallest model{when} "
                f"has {ceil(share * 1000) / 1000:.3f}"
            ]
    return []


def _drops(target: Target) -> Mapping[str, int]:
    return {"encoder": target.drop_encoder_layers, "decoder": target.drop_decoder_layers}


def _narrowest(shape: Any, grid: int) -> Any:
    if not lines.is_there(shape):
        return shape
    if isinstance(shape, Mapping):
        return {**shape, "qk": min(grid, shape["qk"]), "v": min(grid, shape["v"])}
    return min(grid, shape)


def _cost(config: TPruneConfig, quantity: str, stack: str, layer: Mapping[str, Any]) -> int:
    return sum(cost.sublayer(quantity, config.d_model, stack, name, shape) for name, shape in layer.items())


def _trimmed(config: TPruneConfig, target: Target) -> TPruneConfig:
    """The configuration after the cuts that come before any plan, with the least that they leave."""
    base = copy.deepcopy(config)
    if target.hidden is not None:
        if rotation.is_possible(config):  # turned, the output projection is no longer the embedding
            base.tie_output, base.output_bias = False, True
        base.d_model = lines.width_of_share(config.d_model, target.hidden, target.grid)
    if target.vocabulary is not None:
        base.vocab_size = 0
        base.target_vocab_size = base.output_vocab_size = None
    return base
