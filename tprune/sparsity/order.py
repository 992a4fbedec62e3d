"""A group's units in the order of their scores, head by head, since the heads of one attention keep equal widths."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor


def by_head(score: Tensor, heads: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Units of every head, best first, and their scores; of equal scores the lower unit comes first, on every machine.

    Args:
        score: (size,) of the group's units.
        heads: Heads of the group; 1 where it has none.

    Returns:
        Two arrays (heads, width).
    """
    values = score.double().numpy().reshape(heads, -1)
    ranked = np.argsort(-values, axis=1, kind="stable")
    return ranked + np.arange(heads)[:, None] * values.shape[1], np.take_along_axis(values, ranked, axis=1)


def units(order: NDArray[Any]) -> tuple[int, ...]:
    """Units of all heads, rising, as a plan has them."""
    return tuple(sorted(order.flatten().tolist()))
