"""The two graphs of a bundle, traced by both exporters: encode once, then decode step by step.

`encode` gives every cross-attention's keys and values, so that nothing of the encoder is computed
twice; `decode_step` takes and gives the self-attention's keys and values so far. A sub-layer that
was pruned away has no inputs and outputs. The position is an input of its own, since no cache
needs to be left to tell it.

Shapes: B batch, S source length, P cached target length, H heads, K query/key width of a head,
V value width of a head, N vocabulary.
"""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from tprune.errors import ExportError
from tprune.export.attention import cached_attention
from tprune.export.tensors import (
    BUFFERED_STEP,
    DECODE_STEP,
    ENCODE,
    TRANSLATE,
    cache_shapes,
    cross_names,
    encode_inputs,
    past_names,
    step_inputs,
    step_outputs,
)
from tprune.model.layers import Attention
from tprune.model.transformer import TPruneForConditionalGeneration

__all__ = [
    "BUFFERED_STEP",
    "DECODE_STEP",
    "ENCODE",
    "SHORTEST",
    "TRANSLATE",
    "DecodeStep",
    "Encode",
    "cache_shapes",
    "cross_names",
    "encode_inputs",
    "past_names",
    "prepared",
    "shapes_of",
    "step_inputs",
    "step_outputs",
]

SHORTEST = 8  # limit of lengths to trace for: the examples need room above 0 and 1, which are taken for constants


class Encode(nn.Module):
    """Source sentence to the keys and values of the decoder's cross-attentions.

    Args:
        model: A translation model.
        padded: Take a mask, for batches of sentences of unequal length.
        heads_last: Give keys and values as (B, S, H, K) and (B, S, H, V).

    Raises:
        ExportError: No decoder layer attends to the source.
    """

    def __init__(self, model: TPruneForConditionalGeneration, padded: bool, heads_last: bool = False) -> None:
        super().__init__()
        if not cross_names(shapes_of(model)):
            raise ExportError("no decoder layer attends to the source", fix="keep at least one cross-attention")
        self.model, self.padded, self.heads_last = model, padded, heads_last
        self.eval()

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Tensors in the order of `encode_inputs` -> tensors in the order of `cross_names`."""
        states = self.model.encoder(inputs[0], inputs[1] if self.padded else None).last_hidden_state
        found = (tensor for pair in self.model.cross(states) if pair is not None for tensor in pair)
        return tuple(tensor.transpose(1, 2) if self.heads_last else tensor for tensor in found)

    def example(self, batch: int) -> tuple[Tensor, ...]:
        """Inputs to trace with."""
        source = 3
        ones = torch.ones(batch, source, dtype=torch.long)
        return (ones, ones.clone()) if self.padded else (ones,)


class DecodeStep(nn.Module):
    """Newest target token to the logits of the next one, with growing self-attention caches.

    Args:
        model: A translation model.
        padded: Take a mask, for batches of sentences of unequal length.
        heads_last: Take the cross-attentions' keys and values as (B, S, H, K) and (B, S, H, V).
    """

    def __init__(self, model: TPruneForConditionalGeneration, padded: bool, heads_last: bool = False) -> None:
        super().__init__()
        self.model, self.padded, self.heads_last, self.shapes = model, padded, heads_last, shapes_of(model)
        self.eval()

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Tensors in the order of `step_inputs` -> tensors in the order of `step_outputs`."""
        given = dict(zip(step_inputs(self.shapes, self.padded), inputs, strict=True))
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
        return self.model.logits(self.model.decoder.finish(x)), *grown

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
        )


def prepared(model: TPruneForConditionalGeneration) -> TPruneForConditionalGeneration:
    """A copy to trace: the same function with fewer and larger operators, each product a module of its own."""
    copied = deepcopy(model)
    for layer in (*copied.encoder.layers, *copied.decoder.layers):
        if layer.self_attn is not None:
            layer.self_attn.pack()
    size = copied.config.target_vocab_size or copied.config.vocab_size
    output = nn.Linear(copied.config.d_model, size, bias=copied.output_bias is not None)
    tied = (copied.target_embed or copied.embed) if copied.lm_head is None else copied.lm_head
    with torch.no_grad():
        output.weight.copy_(tied.weight)
        if copied.output_bias is not None:
            output.bias.copy_(copied.output_bias)
    copied.lm_head, copied.output_bias = output, None
    return copied


def shapes_of(model: TPruneForConditionalGeneration) -> list[Mapping[str, Any]]:
    """The decoder's shape by layer, as the model's configuration holds it."""
    return list(model.config.decoder_shapes)


def _caches(
    shapes: Sequence[Mapping[str, Any]], kind: str, batch: int, length: int, heads_last: bool = False
) -> list[Tensor]:
    return [torch.zeros(shape) for shape in cache_shapes(shapes, kind, batch, length, heads_last)]
