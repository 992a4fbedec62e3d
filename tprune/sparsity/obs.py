"""Structured Optimal Brain Surgeon: what a unit costs when the surviving ones make up for it.

For a projection y = W x + b with H = (2/N) Σ (x - mean)(x - mean)ᵀ + damping * mean(diag H) * I, taking the columns S
away and letting the others and the bias move as is best for the squared error of y costs
tr(W_S ([H⁻¹]_SS)⁻¹ W_Sᵀ) / 2 (Kurtic et al. 2023, "ZipLM", there without a bias and so about zero; Hassibi & Stork 1993
for single weights). Then W ← W − W_S ([H⁻¹]_SS)⁻¹ [H⁻¹]_S,: and H⁻¹ likewise, and so on. About the mean, since the bias
takes over what is constant, as in `compensate`.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from tprune.learn.batches import Parallel
from tprune.model.transformer import TPruneForConditionalGeneration
from tprune.sparsity import calibration
from tprune.sparsity.calibration import Moments
from tprune.sparsity.lines import Group

DAMPING = 0.01
STEPS = 512  # updates of a layer's Hessian; wider layers lose several units with each


def obs(
    model: TPruneForConditionalGeneration, groups: Sequence[Group], pairs: Parallel, seed: int
) -> dict[str, Tensor]:
    """What each unit costs in the order in which the cheapest one goes, see `removal_costs`.

    ffn, vo and head: columns of fc2 and O, with the Hessian of what enters them. qk: in a head the attention's logits
    q·k are a linear map of the keys whose weights are the queries, so the keys' moments take the place of the Hessian,
    and the queries' that of WᵀW. Keys are taken less their mean over the sentence (`calibration.rows`), all of the
    sentence also where the decoder masks the future.
    """
    where = {group.name: calibration.output_tap(group) for group in groups}
    taps = [tap for group in groups for tap in calibration.taps(group) if tap.enters or where[group.name] is None]
    found = calibration.moments(model, taps, pairs, seed)
    scores = {}
    for group in groups:
        tap = where[group.name]
        if tap is None:
            query, key = (found[tap] for tap in calibration.taps(group))
            heads = [slice(start, start + group.size // group.heads) for start in _starts(group)]
            costs = [removal_costs(hessian(key)[head, head], query.square()[head, head]) for head in heads]
            scores[group.name] = torch.cat(costs)
        else:
            weight = model.get_parameter(f"{tap.module}.weight").detach().double()
            curvature = hessian(found[tap])
            scores[group.name] = removal_costs(curvature, weight.T @ weight, len(curvature) // group.size)
    return scores


def hessian(moments: Moments) -> Tensor:
    """(2/N) Σ (x - mean)(x - mean)ᵀ: (W, W), without damping."""
    return 2 * moments.covariance()


def damped(curvature: Tensor) -> Tensor:
    """H + DAMPING * mean(diag H) * I; the identity where H is zero."""
    level = DAMPING * curvature.diagonal().mean()
    return curvature + torch.eye(len(curvature)).to(curvature) * (level if level > 0 else 1.0)


def removal_costs(curvature: Tensor, gram: Tensor, width: int = 1) -> Tensor:
    """Cost of every unit at the moment when it is the cheapest one left, the others being adjusted each time.

    A running maximum over that order, since a unit that goes later must not count less.

    Args:
        curvature: (W, W) H without damping.
        gram: (W, W) WᵀW of the weights whose columns go.
        width: Consecutive columns of a unit.

    Returns:
        (W / width,) increases of the mean squared error.
    """
    inverse, gram = torch.cholesky_inverse(torch.linalg.cholesky(damped(curvature))), gram.clone()
    size = len(inverse) // width
    alive = torch.ones(size, dtype=torch.bool, device=inverse.device)
    costs = torch.zeros(size, dtype=inverse.dtype, device=inverse.device)
    highest = costs.new_zeros(())
    while alive.any():
        now = _costs(inverse, gram, width).clamp_min(0).masked_fill(~alive, torch.inf)
        cheapest = now.argsort(stable=True)[: min(-(-size // STEPS), int(alive.sum()))]
        costs[cheapest] = now[cheapest].cummax(dim=0).values.clamp_min(highest)
        highest = costs[cheapest].max()
        alive[cheapest] = False
        _eliminate(inverse, gram, (cheapest[:, None] * width + torch.arange(width).to(cheapest)).flatten())
    return costs


def _costs(inverse: Tensor, gram: Tensor, width: int) -> Tensor:
    """tr(gram_SS ([H⁻¹]_SS)⁻¹) / 2 of every unit S; zero where it is gone already and so is its inverse."""
    if width == 1:
        diagonal = inverse.diagonal()
        return gram.diagonal() / (2 * diagonal.masked_fill(diagonal <= 0, 1.0))
    spots = torch.arange(len(inverse), device=inverse.device).view(-1, width)
    rows, columns = spots[:, :, None], spots[:, None, :]
    blocks: Tensor = torch.linalg.pinv(inverse[rows, columns], hermitian=True)  # (units, width, width)
    return (gram[rows, columns] * blocks).sum(dim=(1, 2)) / 2


def _eliminate(inverse: Tensor, gram: Tensor, columns: Tensor) -> None:
    """Take these columns away in place: their rows and columns of the inverse, and of the gram, become zero."""
    share = torch.linalg.solve(inverse[columns][:, columns], inverse[columns])  # ([H⁻¹]_SS)⁻¹ [H⁻¹]_S,:
    inverse -= inverse[:, columns] @ share
    mixed = gram[:, columns] @ share
    gram += share.T @ gram[columns][:, columns] @ share - mixed - mixed.T
    for matrix in (inverse, gram):  # exactly zero, not by cancellation
        matrix[columns] = 0
        matrix[:, columns] = 0


def _starts(group: Group) -> range:
    return range(0, group.size, group.size // group.heads)
