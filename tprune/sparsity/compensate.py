"""Compensation: before the cut, the lines that are kept take over what the dropped ones did.

The closed form of structured OBS (`obs`) for the whole set of units that a plan drops: a least-squares fit on
calibration text. All layers are fitted to the activations of the model as it was. With K the kept and S the dropped
units of a group, and H damped second moments:

- Columns of O and fc2, of what enters them: W_K ← W_K + W_S H_SK (H_KK)⁻¹. The bias takes what is constant, so H is
  about the mean: b ← b + W_S (mean_S - H_SK (H_KK)⁻¹ mean_K).
- Rows of Q. The logits q·k of a head are a linear map of its keys whose weights are the queries, so with H of the
  head's keys W_K ← W_K + (H_KK)⁻¹ H_KS W_S, and likewise the bias.

Damping pulls towards the kept lines as they are, so that the fit never raises the error that it minimizes.
"""

import copy
from dataclasses import dataclass

import torch
from torch import Tensor

from tprune.learn.batches import Parallel
from tprune.model.transformer import TPruneForConditionalGeneration
from tprune.sparsity import calibration, lines, plan
from tprune.sparsity.calibration import Moments
from tprune.sparsity.lines import Group
from tprune.sparsity.obs import damped
from tprune.sparsity.plan import Plan


@dataclass(frozen=True)
class Cut:
    """Which units of a group stay and which go."""

    group: Group
    kept: list[int]
    dropped: list[int]


@torch.no_grad()
def compensate(
    model: TPruneForConditionalGeneration, chosen: Plan, pairs: Parallel, seed: int
) -> TPruneForConditionalGeneration:
    """A copy at the old size with fitted kept lines and zeros for dropped units of width, to be cut by the same plan.

    Args:
        model: The model that is going to be cut; unchanged but for being left in evaluation mode.
        chosen: The plan.
        pairs: Text to calibrate on.
        seed: For the choice of sentences.

    Raises:
        PlanError: The plan does not fit the model.
    """
    plan.check(chosen, model.config)
    cuts = [_cut(chosen, group) for group in lines.groups(model.config, lines.WIDTH_KINDS)]
    cuts = [cut for cut in cuts if cut.kept and cut.dropped]
    where = {cut.group.name: calibration.output_tap(cut.group) or calibration.taps(cut.group)[1] for cut in cuts}
    found = calibration.moments(model, list(where.values()), pairs, seed) if cuts else {}
    fitted = copy.deepcopy(model)
    parameters = dict(fitted.named_parameters())
    for cut in cuts:
        fit = _fit_queries if cut.group.kind == "qk" else _fit_columns
        fit(cut, found[where[cut.group.name]], parameters)
        lines.zero_units(cut.group, cut.dropped, parameters)
    return fitted


def coefficients(curvature: Tensor, kept: list[int], dropped: list[int]) -> Tensor:
    """(H_KK)⁻¹ H_KS, damped: (K, S), how the kept features predict the dropped ones."""
    rows = curvature[kept]
    share: Tensor = torch.linalg.solve(damped(rows[:, kept]), rows[:, dropped])
    return share


def _cut(chosen: Plan, group: Group) -> Cut:
    kept = plan.kept(chosen, group)
    return Cut(group, list(kept), sorted(set(range(group.size)) - set(kept)))


def _fit_columns(cut: Cut, found: Moments, parameters: dict[str, Tensor]) -> None:
    tap = calibration.output_tap(cut.group)
    assert tap is not None
    weight, bias = parameters[f"{tap.module}.weight"], parameters[f"{tap.module}.bias"]
    share, mean = coefficients(found.covariance(), cut.kept, cut.dropped), found.mean()
    lost = weight[:, cut.dropped].double()  # (D, S)
    weight[:, cut.kept] += (lost @ share.T).to(weight)
    bias += (lost @ (mean[cut.dropped] - share.T @ mean[cut.kept])).to(bias)


def _fit_queries(cut: Cut, found: Moments, parameters: dict[str, Tensor]) -> None:
    query, _ = calibration.taps(cut.group)
    width = cut.group.size // cut.group.heads
    for head in range(cut.group.heads):
        kept, dropped = ([unit for unit in units if unit // width == head] for units in (cut.kept, cut.dropped))
        if kept and dropped:  # a head that goes as a whole has nothing to fit
            share = coefficients(found.square(), kept, dropped)
            for part in ("weight", "bias"):
                tensor = parameters[f"{query.module}.{part}"]
                tensor[kept] += (share @ tensor[dropped].double()).to(tensor)
