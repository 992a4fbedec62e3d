"""Penalties on line norms, and their decoupled step outside Adam's moments.

With unit norms n_g, S = sum n_g and Q = sum n_g^2 of a group of G units:

- Structured Hoyer Square, after DeepHoyer (Yang, Wen, Li 2020):
      R = S^2 / Q / G,   dR/dw_g = 2 (S / Q^2) (Q / n_g - S) w_g / G
  R lies in [1/G, 1] and does not change with the scale of the weights; a unit shrinks exactly when
  n_g < Q/S, so the threshold adapts itself. G R reads as the effective number of lines.
- Group lasso, after SSL (Wen et al. 2016): R = S / G, the same force on every unit.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from tprune.sparsity import lines
from tprune.sparsity.lines import Group

EPS = 1e-12  # squared norm under which a unit counts as zero: it exerts and feels no force


def hoyer_square(norms: Tensor) -> Tensor:
    """SHS of the unit norms (G,) of one group: a scalar in [1/G, 1]; 0 for an all-zero group."""
    total = norms.square().sum()
    return norms.sum().square() / total.clamp_min(EPS) / len(norms)


class Decoupled:
    """A penalty's step, applied to the weights after the optimizer's own: w <- w - lr * s_g * dR/dw.

    Adam would divide the penalty's gradient by its own size and so erase the difference between
    lines. The step is preconditioned by the group's Q for SHS and its S for group lasso, which makes
    it equivariant to the scale of the weights: a unit's relative change is
        SHS          2 lr s (m / n_g - m S / Q)      with m = S/G the mean norm
        group lasso    lr s  m / n_g                 (a proximal step: it stops at zero)
    whatever the size of the group or of its weights, so one strength `s` fits all components.

    Args:
        kind: "shs" or "group_lasso".
        model: Its parameters are changed in place.
        groups: Where the penalty acts.
        strength: s for every group name.
    """

    def __init__(self, kind: str, model: nn.Module, groups: Sequence[Group], strength: Mapping[str, float]) -> None:
        self.kind, self.strength = kind, strength
        self.groups = [group for group in groups if strength[group.name] > 0]
        self.parameters = dict(model.named_parameters())

    @torch.no_grad()
    def __call__(self, learning_rate: float) -> None:
        """Shrink (and for SHS grow) the units of every group once."""
        for group in self.groups:
            square = lines.unit_square_norms(group, self.parameters)
            factor = self._factor(square.clamp_min(EPS).sqrt(), learning_rate * self.strength[group.name])
            for member in group.members[0]:
                tensor = self.parameters[member.parameter]
                scale = factor.repeat_interleave(member.width)
                tensor.mul_(scale.view([-1 if axis == member.axis else 1 for axis in range(tensor.dim())]))

    @torch.no_grad()
    def effective_lines(self) -> dict[str, float]:
        """Share of all units that SHS counts as effective, by kind of group: sum of G R over the sum of G."""
        effective, whole = dict[str, float](), dict[str, int]()
        for group in self.groups:
            share = float(hoyer_square(lines.unit_square_norms(group, self.parameters).sqrt()))
            effective[group.kind] = effective.get(group.kind, 0.0) + group.size * share
            whole[group.kind] = whole.get(group.kind, 0) + group.size
        return {f"effective_{kind}": count / whole[kind] for kind, count in effective.items()}

    def _factor(self, norms: Tensor, step: float) -> Tensor:
        mean = norms.mean()
        if self.kind == "group_lasso":
            return (1 - step * mean / norms).clamp_min(0)
        # a step that would cross zero stops there; Adam's momentum moves the unit a little again until it is used up
        return (1 - 2 * step * (mean / norms - mean * norms.sum() / norms.square().sum())).clamp_min(0)
