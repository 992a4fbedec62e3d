"""The training losses, by their formulas."""

import math

import pytest
import torch

from tprune.learn.losses import distilled_cross_entropy, smoothed_cross_entropy


def test_smoothed_cross_entropy_by_its_formula() -> None:
    scores, labels = torch.randn(2, 3, 5).double(), torch.tensor([[1, 4, -100], [0, -100, 2]])
    expected = 0.0
    for row, column in [(0, 0), (0, 1), (1, 0), (1, 2)]:
        minus = -(scores[row, column] - scores[row, column].logsumexp(0))
        expected += 0.7 * minus[labels[row, column]].item() + 0.3 * minus.mean().item()
    assert smoothed_cross_entropy(scores, labels, 0.3).item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("temperature", [1.0, 1.7])
@pytest.mark.parametrize("weight", [0.0, 0.4, 1.0])
def test_distilled_cross_entropy_by_its_formula(temperature: float, weight: float) -> None:
    student = torch.randn(2, 2, 5, dtype=torch.double)
    teacher = torch.randn(2, 2, 5).softmax(dim=-1)
    labels = torch.tensor([[3, -100], [0, 1]])
    expected = 0.0
    for row, column in [(0, 0), (1, 0), (1, 1)]:
        scores, soft = student[row, column].tolist(), teacher[row, column].tolist()
        hard = [0.2 / 5 + 0.8 * (token == int(labels[row, column])) for token in range(5)]
        for wanted, share, divisor in ((hard, 1 - weight, 1.0), (soft, weight, temperature)):
            total = sum(math.exp(score / divisor) for score in scores)
            expected += share * divisor**2 * sum(
                -q * math.log(math.exp(score / divisor) / total) for q, score in zip(wanted, scores, strict=True)
            )  # fmt: skip
    found = distilled_cross_entropy(
        student, labels, teacher.clone(), smoothing=0.2, weight=weight, temperature=temperature
    )
    assert found.item() == pytest.approx(expected, rel=1e-5)


def test_the_least_distilled_cross_entropy_is_the_teachers_own_entropy() -> None:
    teacher = torch.randn(1, 3, 7).softmax(dim=-1)
    student, labels = teacher.log().requires_grad_(), torch.tensor([[1, 2, 6]])
    found = distilled_cross_entropy(student, labels, teacher.clone(), smoothing=0.1, weight=1.0, temperature=1.0)
    assert found.item() == pytest.approx(-(teacher * teacher.log()).sum().item(), rel=1e-5)
    (gradient,) = torch.autograd.grad(found, student)
    assert gradient.abs().max() < 1e-6
