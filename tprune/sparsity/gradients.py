"""Scores from the loss's gradients on calibration text."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from tprune.learn.batches import Parallel
from tprune.model.transformer import TPruneForConditionalGeneration
from tprune.sparsity import calibration, lines
from tprune.sparsity.lines import Group


def taylor(
    model: TPruneForConditionalGeneration, groups: Sequence[Group], pairs: Parallel, seed: int
) -> dict[str, Tensor]:
    """First-order Taylor (Molchanov et al. 2017): |sum of dL/dw * w over the unit's lines|, summed over batches."""
    model.eval()
    parameters = dict(model.named_parameters())
    total = {group.name: torch.zeros(group.size) for group in groups}
    for inputs, labels in calibration.batches(model, pairs, seed):
        model.zero_grad()
        logits = model(**inputs, use_cache=False).logits
        F.cross_entropy(logits.flatten(0, 1), labels.flatten()).backward()  # type: ignore[no-untyped-call]
        with torch.no_grad():
            gradients = {name: tensor.grad for name, tensor in parameters.items() if tensor.grad is not None}
            for group in groups:
                total[group.name] += lines.unit_products(group, gradients, parameters).abs().cpu()
    model.zero_grad()
    return total


def fisher(
    model: TPruneForConditionalGeneration, groups: Sequence[Group], pairs: Parallel, seed: int
) -> dict[str, Tensor]:
    """Diagonal empirical Fisher of the units' gates: sum over sentences of (sum of dL/dw * w over the unit's lines)^2.

    L is the negative log-likelihood of one sentence. Products are added up before they are squared, as in Fisher
    pruning of feature maps (Theis et al. 2018, "Faster gaze prediction with dense networks and Fisher pruning",
    equation 14) and of heads and feed-forward units (Kwon et al. 2022, "A fast post-training pruning framework for
    Transformers"): a unit goes as a whole, so what counts is the slope of its gate.

    A line's sum of dL/dw * w equals the sum over tokens of dL/dy * y for what leaves (a row) or enters (a column) its
    projection, and so one backward pass gives the slopes of every sentence of a batch.
    """
    model.eval()
    where = {group.name: calibration.taps(group) for group in groups}
    total = {group.name: torch.zeros(group.size) for group in groups}
    for inputs, labels in calibration.batches(model, pairs, seed):
        with calibration.tapped(model, [tap for taps in where.values() for tap in taps]) as seen:
            logits = model(**inputs, use_cache=False).logits
        loss = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="sum")
        slopes = dict(zip(seen, torch.autograd.grad(loss, list(seen.values())), strict=True))
        with torch.no_grad():
            products = {tap: (seen[tap] * slope).sum(dim=1) for tap, slope in slopes.items()}  # (B, W)
            for group in groups:
                parts = [products[tap].view(len(labels), group.size, -1).sum(dim=2) for tap in where[group.name]]
                total[group.name] += torch.stack(parts).sum(dim=0).square().sum(dim=0).cpu()
    return total
