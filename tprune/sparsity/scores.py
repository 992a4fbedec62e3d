"""How much each unit matters, by several criteria; higher is kept longer."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from tprune.errors import InputError
from tprune.learn.batches import Parallel
from tprune.model.transformer import TPruneForConditionalGeneration
from tprune.sparsity import lines
from tprune.sparsity.activations import activation, apoz
from tprune.sparsity.gradients import fisher, taylor
from tprune.sparsity.lines import Group
from tprune.sparsity.obs import obs
from tprune.sparsity.synflow import synflow

Score = Callable[[TPruneForConditionalGeneration, Sequence[Group], int], dict[str, Tensor]]
TextScore = Callable[[TPruneForConditionalGeneration, Sequence[Group], Parallel, int], dict[str, Tensor]]


def score(
    name: str,
    model: TPruneForConditionalGeneration,
    groups: Sequence[Group],
    pairs: Parallel | None,
    seed: int,
    importance: Mapping[str, float] | None = None,
) -> dict[str, Tensor]:
    """Score every unit of every group.

    Within a group the criterion decides. Between groups its sum is set to the group's importance,
    as BSSL measured it, so that criteria of any scale can be compared across components.

    Args:
        name: A key of SCORES or TEXT_SCORES.
        model: The model that is going to be cut.
        groups: Groups of width units.
        pairs: Text to calibrate on, for TEXT_SCORES.
        seed: For random, and for the choice of calibration sentences.
        importance: Loss increase per group when it is masked; 1 for all when absent.

    Returns:
        (size,) scores by group name, on the CPU.

    Raises:
        InputError: No such criterion, no text for one that needs it, or units that it does not know.
    """
    if name in SCORES:
        raw = SCORES[name](model, groups, seed)
    elif name not in TEXT_SCORES:
        raise InputError("unknown score", got=name, wanted=" | ".join([*SCORES, *TEXT_SCORES]), fix="use one of these")
    elif pairs is None:
        raise InputError(
            "this score needs calibration text",
            got=f"score {name} without a corpus",
            fix="give a corpus, or choose magnitude",
        )
    else:
        raw = TEXT_SCORES[name](model, groups, pairs, seed)
    weights = importance or {}
    return {
        group.name: raw[group.name].cpu() / raw[group.name].sum().clamp_min(1e-30).cpu() * weights.get(group.name, 1.0)
        for group in groups
    }


def square_norm(model: TPruneForConditionalGeneration, groups: Sequence[Group], _seed: int) -> dict[str, Tensor]:
    """Squared joint norm of the coupled lines."""
    parameters = {name: tensor.detach() for name, tensor in model.named_parameters()}
    return {group.name: lines.unit_square_norms(group, parameters) for group in groups}


def random(_model: TPruneForConditionalGeneration, groups: Sequence[Group], seed: int) -> dict[str, Tensor]:
    """Uniform random scores: the baseline every criterion has to beat."""
    generator = torch.Generator().manual_seed(seed)
    return {group.name: torch.rand(group.size, generator=generator) for group in groups}


SCORES: dict[str, Score] = {
    "shs": square_norm,
    "group_lasso": square_norm,
    "magnitude": square_norm,
    "synflow": synflow,
    "random": random,
}
"""shs, group_lasso and magnitude differ in the model they read: after training with that penalty, or dense."""

TEXT_SCORES: dict[str, TextScore] = {
    "taylor": taylor,
    "fisher": fisher,
    "activation": activation,
    "apoz": apoz,
    "obs": obs,
}
"""Those that need calibration text."""
