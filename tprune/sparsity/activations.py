"""Scores from how strongly units are active on calibration text.

A unit of ffn is read after the activation function, one of vo or head where its value enters O.
"""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from tprune.learn.batches import Parallel
from tprune.model.transformer import TPruneForConditionalGeneration
from tprune.sparsity import calibration
from tprune.sparsity.calibration import Tap
from tprune.sparsity.lines import Group

NEAR_ZERO = 0.1
"""A value counts as zero under this share of its group's mean absolute value, where no exact zeros arise."""


def activation(
    model: TPruneForConditionalGeneration, groups: Sequence[Group], pairs: Parallel, seed: int
) -> dict[str, Tensor]:
    """Mean absolute activation over tokens (Molchanov et al. 2017, section 2.2).

    A unit i of qk adds q_i * k_i to the attention's logits: here it is the mean of |q_i * k_i| over all pairs of a
    query and a key that it may see. The attention's scale, the same for all units, is left out.
    """
    outputs = {group.name: tap for group in groups if (tap := calibration.output_tap(group))}
    means = _mean(model, list(outputs.values()), pairs, seed, lambda _, features: features.abs())
    scores = {group.name: _by_unit(means[outputs[group.name]], group) for group in groups if group.name in outputs}
    return scores | _products([group for group in groups if group.name not in outputs], model, pairs, seed)


def apoz(
    model: TPruneForConditionalGeneration, groups: Sequence[Group], pairs: Parallel, seed: int
) -> dict[str, Tensor]:
    """One minus APoZ, the average percentage of zeros (Hu et al. 2016, "Network trimming", equation 1).

    It is defined behind a ReLU, whose zeros are exact. Other values are hardly ever exactly zero: values of vo and
    head, and feed-forward units behind a smooth activation function, count as zero when they are within NEAR_ZERO of
    their group's mean absolute value. A unit of qk is the mean of its query's and its key's share, since a product is
    near zero when one of them is.
    """
    where = {group.name: _read(group) for group in groups}
    taps = [tap for found in where.values() for tap in found]
    exact = [tap for tap in taps if tap.module.endswith("fc2") and model.config.activation == "relu"]
    size = _mean(model, [tap for tap in taps if tap not in exact], pairs, seed, lambda _, features: features.abs())
    bound = {tap: NEAR_ZERO * float(values.mean()) for tap, values in size.items()}
    shares = _mean(model, taps, pairs, seed, lambda tap, features: (features.abs() > bound.get(tap, 0.0)).float())
    return {
        group.name: torch.stack([_by_unit(shares[tap], group) for tap in where[group.name]]).mean(dim=0)
        for group in groups
    }


def _read(group: Group) -> tuple[Tap, ...]:
    output = calibration.output_tap(group)
    return calibration.taps(group) if output is None else (output,)


def _by_unit(features: Tensor, group: Group) -> Tensor:
    return features.view(group.size, -1).mean(dim=1)


def _mean(
    model: TPruneForConditionalGeneration,
    taps: Sequence[Tap],
    pairs: Parallel,
    seed: int,
    value: Callable[[Tap, Tensor], Tensor],
) -> Mapping[Tap, Tensor]:
    """Mean over tokens of `value` of the features at each tap: (W,), on the CPU."""
    total: dict[Tap, Tensor] = {}
    count: dict[Tap, int] = {}
    for flow in calibration.flows(model, taps, pairs, seed) if taps else ():
        for tap, (features, mask) in flow.items():
            total[tap] = total.get(tap, 0) + value(tap, features[mask]).sum(dim=0).cpu()
            count[tap] = count.get(tap, 0) + int(mask.sum())
    return {tap: total[tap] / count[tap] for tap in taps}


def _products(
    groups: Sequence[Group], model: TPruneForConditionalGeneration, pairs: Parallel, seed: int
) -> dict[str, Tensor]:
    """Mean of |q_i * k_i| over the pairs of a query and a key that it may see: (size,) for every qk group."""
    where = {group.name: calibration.taps(group) for group in groups}
    total = {group.name: torch.zeros(group.size) for group in groups}
    count = {group.name: 0.0 for group in groups}
    taps = [tap for found in where.values() for tap in found]
    for flow in calibration.flows(model, taps, pairs, seed) if taps else ():
        for name, (query, key) in where.items():
            causal = name.startswith("decoder.") and ".self_attn." in name
            (queries, asking), (keys, there) = flow[query], flow[key]
            tokens, others = (mask.unsqueeze(-1).to(queries.dtype) for mask in (asking, there))  # (B, L, 1)
            total[name] += _over_pairs(queries.abs() * tokens, keys.abs() * others, causal).cpu()
            count[name] += float(_over_pairs(tokens, others, causal))
    return {name: total[name] / count[name] for name in where}


def _over_pairs(queries: Tensor, keys: Tensor, causal: bool) -> Tensor:
    # (B, T, W) and (B, S, W) -> (W,): sum of query times key over the pairs
    seen = keys.cumsum(dim=1) if causal else keys.sum(dim=1, keepdim=True)
    return (queries * seen).sum(dim=(0, 1))
