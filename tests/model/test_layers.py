"""What a layer computes, against the library's own words."""

import pytest
import torch

from tprune.model.layers import dropout


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("rate", [0.1, 0.3, 0.5, 1.0])
def test_dropout_drops_its_share_and_keeps_the_mean(rate: float, dtype: torch.dtype) -> None:
    torch.manual_seed(7)
    x = torch.full((1000, 333), 2.0, dtype=dtype, requires_grad=True)
    y = dropout(x, rate, training=True)
    assert y.dtype == dtype
    share = (y == 0).double().mean().item()
    exact = min(255, round(rate * 256)) / 256
    deviation = (exact * (1 - exact) / x.numel()) ** 0.5
    assert share == pytest.approx(exact, abs=5 * deviation)
    kept = y[y != 0].double()
    assert torch.equal(kept, kept[:1].expand_as(kept))
    assert kept[0].item() == pytest.approx(2 / (1 - exact), rel=0.01)
    torch.autograd.backward(y.sum())
    assert x.grad is not None
    assert torch.equal(x.grad == 0, y == 0)  # the gradient goes where the value went


def test_dropout_is_even_over_positions_and_off_in_evaluation() -> None:
    torch.manual_seed(8)
    x = torch.ones(80_000)
    dropped = dropout(x, 0.25, training=True).view(-1, 8) == 0
    for column in dropped.T:  # each byte of a random word
        assert column.double().mean().item() == pytest.approx(0.25, abs=0.03)
    assert torch.equal(dropout(x, 0.25, training=False), x)
    assert torch.equal(dropout(x, 0.0, training=True), x)
