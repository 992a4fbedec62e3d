"""How much each unit matters, by several criteria; higher is kept longer."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from tprune.errors import InputError
from tprune.learn.batches import Parallel, cut, inputs_and_labels
from tprune.model.transformer import TPruneForConditionalGeneration
from tprune.sparsity import lines
from tprune.sparsity.lines import Group

Score = Callable[[TPruneForConditionalGeneration, Sequence[Group], Parallel | None, int], dict[str, Tensor]]


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
        name: "shs", "magnitude", "taylor" or "random".
        model: The model that is going to be cut.
        groups: Groups of width units.
        pairs: Calibration sentences (taylor).
        seed: For random.
        importance: Loss increase per group when it is masked; 1 for all when absent.

    Returns:
        (size,) scores by group name, on the CPU.

    Raises:
        InputError: No such criterion.
    """
    if name not in SCORES:
        raise InputError("unknown score", got=name, wanted=" | ".join(SCORES), fix="use one of these")
    raw = SCORES[name](model, groups, pairs, seed)
    weights = importance or {}
    return {
        group.name: raw[group.name].cpu() / raw[group.name].sum().clamp_min(1e-30).cpu() * weights.get(group.name, 1.0)
        for group in groups
    }


def square_norm(
    model: TPruneForConditionalGeneration, groups: Sequence[Group], _pairs: Parallel | None, _seed: int
) -> dict[str, Tensor]:
    """Squared joint norm of the coupled lines."""
    parameters = {name: tensor.detach() for name, tensor in model.named_parameters()}
    return {group.name: lines.unit_square_norms(group, parameters) for group in groups}


def taylor(
    model: TPruneForConditionalGeneration, groups: Sequence[Group], pairs: Parallel | None, _seed: int
) -> dict[str, Tensor]:
    """First-order Taylor (Molchanov et al. 2017): |sum of dL/dw * w over the unit's lines|, summed over batches."""
    if pairs is None:
        raise InputError(
            "this score needs calibration text",
            got="score taylor without a corpus",
            fix="give a corpus, or choose magnitude",
        )
    model.eval()
    parameters = dict(model.named_parameters())
    total = {group.name: torch.zeros(group.size) for group in groups}
    limit = min(len(pairs), TAYLOR_SENTENCES)
    lengths = pairs.lengths[:limit]
    for batch in cut(lengths.sum(axis=1).argsort(kind="stable"), lengths.max(axis=1), batch_tokens=1024):
        inputs, labels = inputs_and_labels(pairs, batch, model)
        model.zero_grad()
        logits = model(**inputs, use_cache=False).logits
        F.cross_entropy(logits.flatten(0, 1), labels.flatten()).backward()  # type: ignore[no-untyped-call]
        with torch.no_grad():
            gradients = {name: tensor.grad for name, tensor in parameters.items() if tensor.grad is not None}
            for group in groups:
                total[group.name] += lines.unit_products(group, gradients, parameters).abs().cpu()
    model.zero_grad()
    return total


def random(
    _model: TPruneForConditionalGeneration, groups: Sequence[Group], _pairs: Parallel | None, seed: int
) -> dict[str, Tensor]:
    """Uniform random scores: the baseline every criterion has to beat."""
    generator = torch.Generator().manual_seed(seed)
    return {group.name: torch.rand(group.size, generator=generator) for group in groups}


TAYLOR_SENTENCES = 512

SCORES: dict[str, Score] = {"shs": square_norm, "magnitude": square_norm, "taylor": taylor, "random": random}
"""shs and magnitude differ in the model they read: after SHS training, and dense."""
