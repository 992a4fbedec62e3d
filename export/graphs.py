"""The two graphs of a bundle, traced by both exporters: encode once, then decode step by step.

`encode` gives every cross-attention's keys and values, so that nothing of the encoder is computed
twice; `decode_step` takes and gives the self-attention's keys and values so far. A sub-layer that
was pruned away has no inputs and outputs. The position is an input of its own, since no cache
needs to be left to tell it.

With a shortlist, `encode` also takes the candidates and gives the output projection's weights for them,
which go to every decoding step as the cross-attentions' keys do; its logits are those of the candidates.

Shapes: B batch, S source length, P cached target length, H heads, K query/key width of a head,
V value width of a head, D model width, N vocabulary, C candidates.
"""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tprune.errors import ExportError
from tprune.export.attention import cached_attention
from tprune.export.tensors import (
    cache_shapes,
    cross_names,
    step_inputs,
)
from tprune.model.layers import Attention
from tprune.model.transformer import TPruneForConditionalGeneration

FEW = 7  # candidates to trace with: no other size of the examples
SHORTEST = 8  # limit of lengths to trace for: the examples need room above 0 and 1, which are taken for constants


def output_names(model: TPruneForConditionalGeneration) -> list[str]:
    """Names of the output projection's parts for the candidates: output_weight, and output_bias (C,) if any."""
    return ["output_weight", *(["output_bias"] if _output_bias(model) is not None else [])]


def output_parts(model: TPruneForConditionalGeneration, candidates: Tensor, rows: bool = False) -> tuple[Tensor, ...]:
    """The output projection for (C,) candidates, in the order of `output_names`.

    The weight is (D, C), turned once and not at every step, for ONNX Runtime's product with one row reads it fastest
    so; with `rows` it is (1, C, D), as it lies, for XNNPACK's product with one column.
    """
    table = model.output_weight
    weight = F.embedding(candidates[None], table) if rows else table.index_select(0, candidates).T
    bias = _output_bias(model)
    return (weight,) if bias is None else (weight, bias.index_select(0, candidates))


def output_logits(states: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """States (B, D) and the parts of `output_parts` -> logits of the candidates (B, C); B is 1 with rows (1, C, D)."""
    logits = states @ weight if weight.dim() == 2 else torch.bmm(weight, states[..., None]).squeeze(2)
    return logits if bias is None else logits + bias


class Encode(nn.Module):
    """Source sentence to the keys and values of the decoder's cross-attentions.

    Args:
        model: A translation model.
        padded: Take a mask, for batches of sentences of unequal length.
        heads_last: Give keys and values as (B, S, H, K) and (B, S, H, V), and the output projection by rows.
        shortlisted: Take candidates, and give the output projection's parts for them.

    Raises:
        ExportError: No decoder layer attends to the source.
    """

    def __init__(
        self,
        model: TPruneForConditionalGeneration,
        padded: bool,
        *,
        heads_last: bool = False,
        shortlisted: bool = False,
    ) -> None:
        super().__init__()
        if not cross_names(shapes_of(model)):
            raise ExportError("no decoder layer attends to the source", fix="keep at least one cross-attention")
        self.model, self.padded, self.heads_last, self.shortlisted = model, padded, heads_last, shortlisted
        self.eval()

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Tensors in the order of `encode_inputs` -> tensors in the order of `cross_names` and `output_names`."""
        states = self.model.encoder(inputs[0], inputs[1] if self.padded else None).last_hidden_state
        found = (tensor for pair in self.model.cross(states) if pair is not None for tensor in pair)
        cross = tuple(tensor.transpose(1, 2) if self.heads_last else tensor for tensor in found)
        return (*cross, *output_parts(self.model, inputs[-1], self.heads_last)) if self.shortlisted else cross

    def example(self, batch: int) -> tuple[Tensor, ...]:
        """Inputs to trace with."""
        source = 3
        ones = torch.ones(batch, source, dtype=torch.long)
        mask = (ones.clone(),) if self.padded else ()
        return (ones, *mask, torch.arange(FEW)) if self.shortlisted else (ones, *mask)


class DecodeStep(nn.Module):
    """Newest target token to the logits of the next one, with growing self-attention caches.

    Args:
        model: A translation model.
        padded: Take a mask, for batches of sentences of unequal length.
        heads_last: Take them as `Encode` with heads_last gives them.
        shortlisted: Take the output projection's parts for the candidates.
    """

    def __init__(
        self,
        model: TPruneForConditionalGeneration,
        padded: bool,
        *,
        heads_last: bool = False,
        shortlisted: bool = False,
    ) -> None:
        super().__init__()
        self.model, self.padded, self.heads_last, self.shapes = model, padded, heads_last, shapes_of(model)
        self.output = output_names(model) if shortlisted else []
        self.eval()

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Tensors in the order of `step_inputs` -> tensors in the order of `step_outputs`."""
        given = dict(zip(step_inputs(self.shapes, self.padded, self.output), inputs, strict=True))
        mask = given["source_mask"][:, None, None, :].bool() if self.padded else None
        grown: list[Tensor] = []

        def attend(index: int, attention: Attention, y: Tensor) -> Tensor:
            past = given[f"past_keys_{index}"], given[f"past_values_{index}"]
            attended, *longer = cached_attention(*attention.project_packed(y[:, None]), *past, attention.scale)
            grown.extend(longer)
            found: Tensor = attended.squeeze(1)
            return found

        x = self.model.embed_target(given["tokens"], given["position"])
        for index, layer in enumerate(self.model.decoder.layers):
            if layer.self_attn is not None:
                x = layer.self_attn.around(x, partial(attend, index, layer.self_attn))
            if layer.cross_attn is not None:
                keys, values = given[f"cross_keys_{index}"], given[f"cross_values_{index}"]
                if self.heads_last:
                    keys, values = keys.transpose(1, 2), values.transpose(1, 2)
                x = layer.cross_attn(x, mask, known=(keys, values))
            if layer.ffn is not None:
                x = layer.ffn(x)
        states = self.model.decoder.finish(x)
        output = [given[name] for name in self.output]
        return output_logits(states, *output) if output else self.model.logits(states), *grown

    def example(self, batch: int) -> tuple[Tensor, ...]:
        """Inputs to trace with."""
        source, past = 3, 5
        mask = [torch.ones(batch, source, dtype=torch.long)] if self.padded else []
        return (
            torch.ones(batch, dtype=torch.long),
            torch.tensor([past]),
            *mask,
            *_caches(self.shapes, "self_attn", batch, past),
            *_caches(self.shapes, "cross_attn", batch, source, self.heads_last),
            *output_example(self.model, self.output, self.heads_last),
        )


def prepared(model: TPruneForConditionalGeneration) -> TPruneForConditionalGeneration:
    """A copy to trace: the same function with fewer and larger operators, each product a module of its own."""
    copied = deepcopy(model)
    for layer in (*copied.encoder.layers, *copied.decoder.layers):
        if layer.self_attn is not None:
            layer.self_attn.pack()
    output = nn.Linear(copied.config.d_model, size_of(copied), bias=copied.output_bias is not None)
    with torch.no_grad():
        output.weight.copy_(copied.output_weight)
        if copied.output_bias is not None:
            output.bias.copy_(copied.output_bias)
    copied.lm_head, copied.output_bias = output, None
    return copied


def size_of(model: TPruneForConditionalGeneration) -> int:
    """Number N of tokens that can be produced."""
    return int(model.config.output_size)


def shapes_of(model: TPruneForConditionalGeneration) -> list[Mapping[str, Any]]:
    """The decoder's shape by layer, as the model's configuration holds it."""
    return list(model.config.decoder_shapes)


def output_example(model: TPruneForConditionalGeneration, output: Sequence[str], rows: bool) -> list[Tensor]:
    """Parts of FEW candidates to trace with; none for no `output` names."""
    # a quantized weight has no rows to take, and without a shortlist needs none
    return [part.detach() for part in output_parts(model, torch.arange(FEW), rows)] if output else []


def _caches(
    shapes: Sequence[Mapping[str, Any]], kind: str, batch: int, length: int, heads_last: bool = False
) -> list[Tensor]:
    return [torch.zeros(shape) for shape in cache_shapes(shapes, kind, batch, length, heads_last)]


def _output_bias(model: TPruneForConditionalGeneration) -> Tensor | None:
    folded = None if model.lm_head is None else model.lm_head.bias  # by `prepared`
    return model.output_bias if folded is None else folded
