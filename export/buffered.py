"""The decoding step whose self-attention caches are buffers inside an ExecuTorch program, for a greedy search.

Nothing but a token goes in and logits come out; attention and cache are the operators of ExecuTorch's LLM extension.
One sentence at a time: a program has one set of buffers.

Shapes: S source length, H heads, W width of a head, T most target tokens, N vocabulary, C candidates.
"""

from copy import deepcopy
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tprune.export import graphs, tensors
from tprune.model.layers import Attention
from tprune.model.transformer import TPruneForConditionalGeneration


class BufferedStep(nn.Module):
    """Newest target token to the logits of the next one; what came before it is in the buffers.

    Args:
        model: A model after `equal_widths`.
        max_target: Most target tokens T of a sentence.
        shortlisted: Take the output projection's parts for the candidates.
    """

    def __init__(self, model: TPruneForConditionalGeneration, max_target: int, shortlisted: bool = False) -> None:
        super().__init__()
        self.model, self.max_target = model, max_target
        self.output = graphs.output_names(model) if shortlisted else []
        for index, layer in enumerate(model.decoder.layers):
            if layer.self_attn is not None:
                for name in ("keys", "values"):
                    cache = torch.zeros(1, max_target, layer.self_attn.heads, layer.self_attn.qk)
                    self.register_buffer(f"{name}_{index}", cache)
        self.eval()

    def forward(self, token: Tensor, position: Tensor, *known: Tensor) -> Tensor:
        """Newest token to logits.

        Args:
            token: (1,)
            position: (1,)
            known: Cross-attention keys and values (1, S, H, W) by layer, then `output`.

        Returns:
            Logits (1, N), or (1, C) of the candidates.
        """
        model, given = self.model, iter(known)
        start = position.item()
        torch._check(start >= 0)  # type: ignore[no-untyped-call]
        torch._check(start < self.max_target)  # type: ignore[no-untyped-call]
        x = model.embed_target(token, position)  # (1, D)
        for index, layer in enumerate(model.decoder.layers):
            if layer.self_attn is not None:
                x = layer.self_attn.around(x, partial(self._own, index, layer.self_attn, start))
            if layer.cross_attn is not None:
                x = layer.cross_attn.around(x, partial(_cross, layer.cross_attn, next(given), next(given)))
            if layer.ffn is not None:
                x = layer.ffn(x)
        states, output = model.decoder.finish(x), list(given)
        return graphs.output_logits(states, *output) if output else model.logits(states)

    def _own(self, index: int, attention: Attention, start: Any, y: Tensor) -> Tensor:
        query, *newest = (part.view(1, 1, attention.heads, -1) for part in attention.project_packed(y))
        caches = [getattr(self, f"{name}_{index}") for name in ("keys", "values")]
        for new, cache in zip(newest, caches, strict=True):
            torch.ops.llama.update_cache(new, cache, start)
        attended = torch.ops.llama.custom_sdpa(query, *caches, start, None, 0.0, True, attention.scale)
        return attended.flatten(2)[0]  # type: ignore[no-any-return]

    def example(self, source: int) -> tuple[Tensor, ...]:
        """Inputs to trace with."""
        shapes = tensors.cache_shapes(graphs.shapes_of(self.model), "cross_attn", 1, source, heads_last=True)
        known = [torch.zeros(shape) for shape in shapes] + graphs.output_example(self.model, self.output, rows=True)
        return (torch.ones(1, dtype=torch.long), torch.tensor([3]), *known)


def _cross(attention: Attention, keys: Tensor, values: Tensor, y: Tensor) -> Tensor:
    query = attention.q_proj(y).view(1, 1, attention.heads, -1)
    last = keys.shape[1] - 1  # the operator reads keys up to the query's own position
    attended = torch.ops.llama.custom_sdpa(query, keys, values, last, None, 0.0, False, attention.scale)
    return attended.flatten(2)[0]  # type: ignore[no-any-return]


def equal_widths(model: TPruneForConditionalGeneration) -> TPruneForConditionalGeneration:
    """A copy whose decoder attentions have equal key and value widths, the narrower ones filled up with zeros.

    The operators take keys and values of one width; the function is the same.
    """
    copied = deepcopy(model)
    for layer, shape in zip(copied.decoder.layers, copied.config.decoder_shapes, strict=True):
        for kind in ("self_attn", "cross_attn"):
            attention = getattr(layer, kind)
            if attention is not None:
                _widen(attention, max(attention.qk, attention.v))
                shape[kind] = {**shape[kind], "qk": attention.qk, "v": attention.v}
    return copied


def _widen(attention: Attention, width: int) -> None:
    for name, old in (("q_proj", attention.qk), ("k_proj", attention.qk), ("v_proj", attention.v)):
        part = getattr(attention, name)
        weight = part.weight.detach().unflatten(0, (attention.heads, old))
        bias = part.bias.detach().unflatten(0, (attention.heads, old))
        wide = nn.Linear(part.in_features, attention.heads * width)
        wide.weight = nn.Parameter(F.pad(weight, (0, 0, 0, width - old)).flatten(0, 1))
        wide.bias = nn.Parameter(F.pad(bias, (0, width - old)).flatten(0, 1))
        setattr(attention, name, wide)
    output = attention.o_proj.weight.detach().view(-1, attention.heads, attention.v)
    attention.o_proj.in_features = attention.heads * width
    attention.o_proj.weight = nn.Parameter(F.pad(output, (0, width - attention.v)).flatten(1))
    attention.qk = attention.v = width
