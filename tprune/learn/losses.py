"""What training lowers: the cross entropy to smoothed labels, mixed with that to a teacher's distributions.

Over a whole batch the N logits of every token are the largest tensor of a training step, and every operation on them a
walk through memory. Here some rows at a time go all the way, from logits to the loss and its gradient: half the time on
a CPU, and a third with a teacher. (Under the Trainer the logits have been turned to float32 as a whole before.)
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

CHUNK_CPU, CHUNK = 1 << 18, 1 << 26  # logits at a time: few enough for a cache, and enough to fill a GPU


@dataclass(frozen=True)
class Teaching:
    """Word-level distillation (Kim & Rush 2016).

    Attributes:
        says: The teacher's probabilities (m, N) at this temperature, of the rows of a slice of the B * T tokens.
        weight: Share of the teacher; the labels have the rest.
        temperature: Divides the logits in the teacher's part.
    """

    says: Callable[[slice], Tensor]
    weight: float
    temperature: float = 1.0


def cross_entropy(logits: Tensor, labels: Tensor, smoothing: float, teaching: Teaching | None = None) -> Tensor:
    """Sum over the target tokens, in nats, of

        (1 - w) * sum_n -[(1 - e) * (n = y) + e/N] log p(n) + w * T^2 * sum_n -q(n) log p_T(n)

    for a smoothing e, a teacher's weight w, temperature T and probabilities q. T^2 keeps the gradient's size (Hinton et
    al. 2015); the second sum is the KL divergence from q plus q's own entropy, which no weight of the student changes.

    Args:
        logits: (B, T, N).
        labels: (B, T), -100 where nothing counts.
        smoothing: Share of every label that is spread over all tokens.
        teaching: The teacher; None: only the labels count.
    """
    found: Tensor = _Summed.apply(logits.flatten(0, 1), labels.flatten(), smoothing, teaching)  # type: ignore[no-untyped-call]
    return found


class _Summed(torch.autograd.Function):
    """The loss, with its gradient computed along with it."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, labels: Tensor, smoothing: float, teaching: Teaching | None) -> Tensor:
        total, gradient = logits.new_zeros((), dtype=_at_least_float(logits)), torch.empty_like(logits)
        for rows in _chunks(logits):
            scores, counted = logits[rows].to(total.dtype), (labels[rows] != -100)[:, None]
            own = torch.zeros_like(scores)
            for wanted, temperature in _wanted(scores, labels[rows].clamp(min=0), smoothing, teaching, rows):
                wanted.mul_(counted)
                likely = torch.log_softmax(scores / temperature if temperature != 1 else scores, dim=-1)
                total -= torch.dot(wanted.flatten(), likely.flatten()) * temperature**2
                # d/dz of -sum_n q(n) log p(n) is p * sum_n q(n) - q
                own += likely.exp_().mul_(wanted.sum(dim=-1, keepdim=True)).sub_(wanted).mul_(temperature)
            gradient[rows] = own
        ctx.save_for_backward(gradient)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor, None, None, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * upstream[0].to(gradient.dtype), None, None, None


def _wanted(
    scores: Tensor, labels: Tensor, smoothing: float, teaching: Teaching | None, rows: slice
) -> Iterator[tuple[Tensor, float]]:
    """What the student should say (m, N), in one or two parts, and at which temperature."""
    weight = 0.0 if teaching is None else teaching.weight
    hard = torch.full_like(scores, (1 - weight) * smoothing / scores.shape[-1])
    hard.scatter_add_(1, labels[:, None], torch.full_like(scores[:, :1], (1 - weight) * (1 - smoothing)))
    if teaching is None:
        yield hard, 1.0
        return
    soft = teaching.says(rows).to(scores.dtype)
    if teaching.temperature == 1:
        yield hard.add_(soft, alpha=weight), 1.0
    else:
        yield hard, 1.0
        yield soft * weight, teaching.temperature


def _chunks(logits: Tensor) -> Iterator[slice]:
    rows = max(1, (CHUNK_CPU if logits.device.type == "cpu" else CHUNK) // logits.shape[-1])
    for start in range(0, len(logits), rows):
        yield slice(start, start + rows)


def _at_least_float(logits: Tensor) -> torch.dtype:
    return torch.promote_types(logits.dtype, torch.float32)
