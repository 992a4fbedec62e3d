"""What training lowers: the smoothed cross entropy, mixed with that to a teacher's distribution."""

import torch
from torch import Tensor
from torch.nn import functional as F


def smoothed_cross_entropy(logits: Tensor, labels: Tensor, smoothing: float) -> Tensor:
    """Sum over the target tokens of (1 - e) * -log p(y) + e/N * sum_n -log p(n); logits (B, T, N), labels (B, T)."""
    return F.cross_entropy(logits.flatten(0, 1).float(), labels.flatten(), label_smoothing=smoothing, reduction="sum")


def distilled_cross_entropy(
    logits: Tensor, labels: Tensor, teacher: Tensor, *, smoothing: float, weight: float, temperature: float
) -> Tensor:
    """Word-level distillation (Kim & Rush 2016), summed over the target tokens, in nats:

        (1 - weight) * smoothed cross entropy + weight * T^2 * sum_n -q(n) log p_T(n)

    T^2 keeps the gradient's size (Hinton et al. 2015). The second sum is the KL divergence from the teacher's
    distribution q plus q's own entropy, which no weight of the student changes.

    Args:
        logits: (B, T, N) of the student.
        labels: (B, T), -100 where nothing counts.
        teacher: (B, T, N) probabilities q of the teacher, at this temperature; overwritten.
        smoothing: Share of every label that is spread over all tokens.
        weight: Share of the teacher.
        temperature: Divides the student's logits in the teacher's part.
    """
    scores, wanted = logits.flatten(0, 1).float(), teacher.flatten(0, 1).mul_(weight)
    if temperature != 1:
        wanted.mul_((labels.flatten() != -100)[:, None])
        soft = F.cross_entropy(scores / temperature, wanted, reduction="sum") * temperature**2
        return (1 - weight) * smoothed_cross_entropy(logits, labels, smoothing) + soft
    # at one temperature both are cross entropies to one mixed distribution: one pass over N logits instead of two
    wanted.add_((1 - weight) * smoothing / wanted.shape[-1])
    chosen = labels.flatten().clamp(min=0)[:, None]
    wanted.scatter_add_(1, chosen, torch.full_like(wanted[:, :1], (1 - weight) * (1 - smoothing)))
    wanted.mul_((labels.flatten() != -100)[:, None])
    return F.cross_entropy(scores, wanted, reduction="sum")
