"""From the sum of a model's parts to the time of the whole model, and back.

A cost is measured among parts of its own kind. A whole model takes longer than the sum where its weights no longer fit
a cache that those of the parts did, and less where they fit better. Some whole models, from a shallow to the largest,
tell by how much; between them it is interpolated.
"""

from typing import Self

import numpy as np
from pydantic import model_validator

from tprune.section import Section


class Calibration(Section):
    """A line through (sum of the parts, measured) that rises; beyond its ends the ratio is that of the end."""

    parts_ms: tuple[float, ...] = ()
    whole_ms: tuple[float, ...] = ()
    """Of the same models; without any, a model takes as long as its parts."""

    @model_validator(mode="after")
    def _rises(self) -> Self:
        if len(self.parts_ms) != len(self.whole_ms):
            raise ValueError(f"{len(self.parts_ms)} sums of parts and {len(self.whole_ms)} whole models")
        for name, values in (("parts_ms", self.parts_ms), ("whole_ms", self.whole_ms)):
            if any(low >= high for low, high in zip((0.0, *values), values, strict=False)):
                raise ValueError(f"{name} do not rise from above 0")
        return self

    def whole(self, parts_ms: float) -> float:
        """Milliseconds of a model whose parts take so long."""
        return _line(parts_ms, self.parts_ms, self.whole_ms)

    def parts(self, whole_ms: float) -> float:
        """Milliseconds of the parts of a model that takes so long."""
        return _line(whole_ms, self.whole_ms, self.parts_ms)


def through(points: list[tuple[float, float]]) -> Calibration:
    """Through models as (sum of the parts, measured); one that breaks the rise, as noise may, is left out.

    Args:
        points: In any order; of those that contradict each other the larger models stay.
    """
    kept: list[tuple[float, float]] = []
    for parts_ms, whole_ms in sorted(points, reverse=True):
        if min(parts_ms, whole_ms) > 0 and (not kept or (parts_ms < kept[-1][0] and whole_ms < kept[-1][1])):
            kept.append((parts_ms, whole_ms))
    return Calibration(parts_ms=tuple(x for x, _ in reversed(kept)), whole_ms=tuple(y for _, y in reversed(kept)))


def _line(value: float, xs: tuple[float, ...], ys: tuple[float, ...]) -> float:
    if not xs:
        return value
    if value <= xs[0]:
        return value * ys[0] / xs[0]
    if value >= xs[-1]:
        return value * ys[-1] / xs[-1]
    return float(np.interp(value, xs, ys))
