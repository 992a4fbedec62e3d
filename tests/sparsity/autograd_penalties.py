"""The penalties as functions that autograd can differentiate: what the decoupled step is held to."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from tprune.model.transformer import TPruneForConditionalGeneration
from tprune.sparsity import lines
from tprune.sparsity.lines import Group
from tprune.sparsity.penalties import EPS, hoyer_square


def unit_norms(group: Group, parameters: Mapping[str, Tensor]) -> Tensor:
    """Joint norms of the units' lines (size,), with gradient 0 where a unit is zero."""
    square = lines.unit_square_norms(group, parameters)
    dead = square <= EPS
    return torch.where(dead, 0.0, square.masked_fill(dead, 1.0).sqrt())


def penalty(
    kind: str, model: TPruneForConditionalGeneration, groups: Sequence[Group], weights: Mapping[str, float]
) -> Tensor:
    """Weighted sum of a penalty over groups, for autograd: what the decoupled step is held to."""
    parameters = dict(model.named_parameters())
    values = []
    for group in groups:
        norms = unit_norms(group, parameters)
        values.append(weights.get(group.name, 1.0) * (hoyer_square(norms) if kind == "shs" else norms.mean()))
    return torch.stack(values).sum()
