"""The gap between dead and living units in a distribution of norms, in place of a fixed threshold.

Training with a penalty parts the units of a group: some wither by orders of magnitude, the others keep the norms
they need. The widest ratio between two neighbors in the sorted norms tells them apart, wherever it lies.
"""

import numpy as np
from numpy.typing import NDArray

DEAD = 1e-3  # share of the mean norm under which units are dead alike, and ratios among them mean nothing
HIGHEST = 0.3  # share of the mean norm under which the lower side of a gap has to lie: what is higher is alive
LEAST_RATIO = 2.0  # of the norms on both sides; among living units neighbors are far closer


def threshold(norms: NDArray[np.float64]) -> float | None:
    """The norm in the middle of the gap, by ratio; None where there is no gap.

    Args:
        norms: (G,) norms of one group's units.
    """
    mean = norms.mean()
    ranked = np.sort(np.maximum(norms, DEAD * mean))
    below, above = ranked[:-1], ranked[1:]
    ratios = np.where(below <= HIGHEST * mean, above / np.where(below > 0, below, 1.0), 0.0)
    if not len(ratios) or ratios.max() < LEAST_RATIO:
        return None
    widest = int(ratios.argmax())
    return float(np.sqrt(below[widest] * above[widest]))
