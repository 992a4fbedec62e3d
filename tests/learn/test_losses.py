"""The training losses and their gradients, by their formulas."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tprune.learn import losses
from tprune.learn.losses import Teaching, cross_entropy


@pytest.fixture(autouse=True)
def _four_rows_at_a_time_and_then_two(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(losses, "CHUNK_CPU", 20)


def by_hand(
    scores: Tensor, labels: Tensor, smoothing: float, teacher: Tensor | None = None, weight: float = 0.0, t: float = 1.0
) -> float:
    expected, size = 0.0, scores.shape[-1]
    for row, column in (labels != -100).nonzero().tolist():
        hard = [smoothing / size + (1 - smoothing) * (token == int(labels[row, column])) for token in range(size)]
        parts = [(hard, 1 - weight, 1.0)]
        if teacher is not None:
            parts.append((teacher[row, column].tolist(), weight, t))
        for wanted, share, divisor in parts:
            powers = [math.exp(score / divisor) for score in scores[row, column].tolist()]
            expected -= share * divisor**2 * sum(
                q * math.log(power / sum(powers)) for q, power in zip(wanted, powers, strict=True)
            )  # fmt: skip
    return expected


LABELS = torch.tensor([[1, 4, -100], [0, -100, 2]])


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_smoothed_cross_entropy_by_its_formula(smoothing: float) -> None:
    scores = torch.randn(2, 3, 5)
    expected = by_hand(scores, LABELS, smoothing)
    assert cross_entropy(scores, LABELS, smoothing).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("temperature", [1.0, 1.7])
@pytest.mark.parametrize("weight", [0.0, 0.4, 1.0])
def test_with_a_teacher_by_its_formula(temperature: float, weight: float) -> None:
    scores, teacher = torch.randn(2, 3, 5), torch.randn(2, 3, 5).softmax(dim=-1)
    expected = by_hand(scores, LABELS, 0.2, teacher, weight, temperature)
    teaching = Teaching(lambda rows: teacher.flatten(0, 1)[rows], weight, temperature)
    assert cross_entropy(scores, LABELS, 0.2, teaching).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("temperature", [None, 1.0, 2.5])
def test_its_gradient_is_the_slope(temperature: float | None) -> None:
    scores, teacher = torch.randn(2, 3, 5, dtype=torch.double), torch.randn(6, 5).double().softmax(dim=-1)
    teaching = None if temperature is None else Teaching(lambda rows: teacher[rows], 0.6, temperature)
    assert torch.autograd.gradcheck(  # by finite differences
        lambda found: cross_entropy(found, LABELS, 0.1, teaching) / 7, (scores.requires_grad_(),)
    )


def test_in_bfloat16_it_is_that_of_the_rounded_logits() -> None:
    scores = torch.randn(2, 3, 5).bfloat16()
    found, expected = (scores.clone().to(kind).requires_grad_() for kind in (torch.bfloat16, torch.float32))
    loss = cross_entropy(found, LABELS, 0.1)
    loss.backward()  # type: ignore[no-untyped-call]
    reference = F.cross_entropy(expected.flatten(0, 1), LABELS.flatten(), label_smoothing=0.1, reduction="sum")
    reference.backward()  # type: ignore[no-untyped-call]
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(reference.item(), rel=1e-5)
    assert found.grad is not None
    assert found.grad.dtype == torch.bfloat16
    torch.testing.assert_close(found.grad.float(), expected.grad, rtol=5e-3, atol=1e-3)


def test_a_second_derivative_is_refused() -> None:
    scores = torch.randn(2, 3, 5, requires_grad=True)
    (slope,) = torch.autograd.grad(cross_entropy(scores, LABELS, 0.1), scores, create_graph=True)
    with pytest.raises(RuntimeError, match="does not require grad"):
        slope.sum().backward()  # type: ignore[no-untyped-call]


def test_it_is_least_at_the_teacher() -> None:
    teacher = torch.randn(1, 3, 7).softmax(dim=-1)
    student = teacher.log().requires_grad_()
    found = cross_entropy(student, torch.tensor([[1, 2, 6]]), 0.1, Teaching(lambda rows: teacher[0, rows], 1.0))
    assert found.item() == pytest.approx(-(teacher * teacher.log()).sum().item(), rel=1e-5)
    (gradient,) = torch.autograd.grad(found, student)
    assert gradient.abs().max() < 1e-6
