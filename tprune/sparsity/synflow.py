"""SynFlow: how much of a positive flow through the network a unit carries; needs no text.

Tanaka et al. 2020, "Pruning neural networks without any data by iteratively conserving synaptic flow": with R the sum
of all outputs of the network with absolute weights on an input of ones, a weight scores dR/dw * w.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from tprune.model.shape import TPruneConfig
from tprune.model.transformer import TPruneForConditionalGeneration
from tprune.sparsity import lines
from tprune.sparsity.lines import Group

ROUNDS = 100
SMALLEST = 0.05  # share of the units that is left after the last round

Weights = Mapping[str, Tensor]


def synflow(model: TPruneForConditionalGeneration, groups: Sequence[Group], _seed: int) -> dict[str, Tensor]:
    """Share of the flow that each unit carries at the moment when it is the weakest one left.

    In ROUNDS rounds the weakest units of all groups go, until SMALLEST of them are left: round n leaves
    SMALLEST ** (n / ROUNDS), as in the paper, where a single round would empty whole layers. A running maximum over
    that order, since a unit that goes later must not count less.
    """
    weights = {name: tensor.detach().double().abs() for name, tensor in model.named_parameters()}
    sizes = [group.size for group in groups]
    found, highest = torch.zeros(sum(sizes), dtype=torch.float64), 0.0
    alive = torch.ones(len(found), dtype=torch.bool)
    for turn in range(1, ROUNDS + 1):
        shares = _shares(weights, model.config, groups).cpu()
        leave = 0 if turn == ROUNDS else round(len(found) * SMALLEST ** (turn / ROUNDS))
        weakest = shares.masked_fill(~alive, torch.inf).argsort(stable=True)[: int(alive.sum()) - leave]
        if not len(weakest):
            continue
        found[weakest] = shares[weakest].cummax(dim=0).values.clamp_min(highest)
        highest = float(found[weakest].max())
        alive[weakest] = False
        going = torch.zeros_like(alive)
        going[weakest] = True
        for group, part in zip(groups, torch.split(going, sizes), strict=True):
            lines.zero_units(group, part.nonzero().flatten().tolist(), weights)
    return {group.name: part.float() for group, part in zip(groups, torch.split(found, sizes), strict=True)}


def flow(weights: Weights, config: TPruneConfig) -> Tensor:
    """R: the sum of all logits of the linear, positive network, for one source and one target token.

    What is not linear is replaced by the linear map that it is at this point. An activation function and dropout are
    the identity; biases and what normalization adds are left out. Normalization divides by the mean, held constant,
    and multiplies by its weight. The softmax of an attention's logit becomes the logit over itself, held constant:
    the values flow on with weight 1, and of that weight every unit of qk carries its share of q·k.

    Args:
        weights: Absolute parameters by name.
        config: Of the model.
    """
    states = next(iter(weights.values())).new_ones(config.d_model)
    memory = states
    for stack in lines.STACKS:
        states = torch.ones_like(memory)
        if config.embedding_norm:
            states = _norm(states, weights[f"{stack}.embedding_norm.weight"])
        for index, shape in enumerate(lines.layer_shapes(config, stack)):
            for sublayer in lines.sublayers(shape):
                prefix = lines.module_name(stack, index, sublayer)
                norm = weights[f"{prefix}.norm.weight"]
                y = _norm(states, norm) if config.norm == "pre" else states
                if sublayer == "ffn":
                    inner = weights[f"{prefix}.fc2.weight"] @ (weights[f"{prefix}.fc1.weight"] @ y)
                else:
                    keys = memory if sublayer == "cross_attn" else y
                    inner = _attend(weights, prefix, shape[sublayer]["heads"], y, keys)
                states = states + inner
                if config.norm == "post":
                    states = _norm(states, norm)
        if config.final_norm:
            states = _norm(states, weights[f"{stack}.final_norm.weight"])
        memory = states if stack == "encoder" else memory
    table = "embed.weight" if config.target_vocab_size is None else "target_embed.weight"
    return (weights[table if config.tie_output else "lm_head.weight"] @ states).sum()


def _attend(weights: Weights, prefix: str, heads: int, y: Tensor, source: Tensor) -> Tensor:
    queries = weights[f"{prefix}.q_proj.weight"] @ y
    keys = weights[f"{prefix}.k_proj.weight"] @ source
    logits = (queries * keys).view(heads, -1).sum(dim=1, keepdim=True)  # (H, 1)
    values = (weights[f"{prefix}.v_proj.weight"] @ source).view(heads, -1) * _over_itself(logits)
    return weights[f"{prefix}.o_proj.weight"] @ values.flatten()


def _norm(states: Tensor, weight: Tensor) -> Tensor:
    return states / states.detach().mean() * weight


def _over_itself(values: Tensor) -> Tensor:
    return values / values.detach().clamp_min(torch.finfo(values.dtype).tiny)


def _shares(weights: Weights, config: TPruneConfig, groups: Sequence[Group]) -> Tensor:
    """dR/dw * w over R, summed over every unit's lines: all units of all groups in one row."""
    used = {member.parameter for group in groups for member in group.members[0]}
    names = sorted(name for name in used if name.endswith(".weight"))
    leaves = {name: weights[name].detach().requires_grad_() for name in names}
    total = flow({**weights, **leaves}, config)
    slopes = dict(zip(names, torch.autograd.grad(total, list(leaves.values())), strict=True))
    slopes |= {name: torch.zeros_like(weights[name]) for name in used - set(names)}  # biases carry no flow
    return torch.cat([lines.unit_products(group, slopes, weights) for group in groups]) / total.detach()
