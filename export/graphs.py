"""The two graphs of a bundle, traced by both exporters: encode once, then decode step by step.

`encode` gives every cross-attention's keys and values, so that nothing of the encoder is computed
twice; `decode_step` takes and gives the self-attention's keys and values so far. A sub-layer that
was pruned away has no inputs and outputs. The position is an input of its own, since no cache
needs to be left to tell it.

With a shortlist, `encode` also takes the candidates and gives the output projection's weights for them,
which go to every `decode_step` as the cross-attentions' keys do; its logits are those of the candidates.

Shapes: B batch, S source length, P cached target length, H heads, K query/key width of a head,
V value width of a head, D model width, N vocabulary, C candidates.
"""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from tprune.errors import ExportError
from tprune.model.transformer import TPruneForConditionalGeneration

ENCODE, DECODE_STEP, TRANSLATE = "encode", "decode_step", "translate"
CANDIDATES = "candidates"
FEW = 7  # candidates to trace with: no other size of the examples
SHORTEST = 8  # limit of lengths to trace for: the examples need room above 0 and 1, which are taken for constants


def cross_names(shapes: Sequence[Mapping[str, Any]]) -> list[str]:
    """Names of the tensors that go from `encode` to every `decode_step`: (B, H, S, K) and (B, H, S, V) by layer."""
    return [
        name for layer in _layers(shapes, "cross_attn") for name in (f"cross_keys_{layer}", f"cross_values_{layer}")
    ]


def past_names(shapes: Sequence[Mapping[str, Any]]) -> list[str]:
    """Names of the cache that goes into `decode_step`: (B, H, P, K) and (B, H, P, V) by layer."""
    return [f"past_{name}_{layer}" for layer in _layers(shapes, "self_attn") for name in ("keys", "values")]


def encode_inputs(padded: bool, shortlisted: bool = False) -> list[str]:
    """Names of the inputs of `encode`: source (B, S), for padded sentences source_mask (B, S), candidates (C,)."""
    return ["source", *(["source_mask"] if padded else []), *([CANDIDATES] if shortlisted else [])]


def output_names(model: TPruneForConditionalGeneration) -> list[str]:
    """Names of the output projection's parts for the candidates: output_weight (D, C), and output_bias (C,) if any."""
    return ["output_weight", *(["output_bias"] if _output_bias(model) is not None else [])]


def step_inputs(shapes: Sequence[Mapping[str, Any]], padded: bool, output: Sequence[str] = ()) -> list[str]:
    """Names of the inputs of `decode_step`: tokens (B,), position (1,), maybe source_mask (B, S), caches, `output`."""
    mask = ["source_mask"] if padded else []
    return ["tokens", "position", *mask, *past_names(shapes), *cross_names(shapes), *output]


def step_outputs(shapes: Sequence[Mapping[str, Any]]) -> list[str]:
    """Names of the outputs of `decode_step`: logits (B, N) or (B, C), and the caches with P+1 positions."""
    return ["logits", *(f"new_{name}_{layer}" for layer in _layers(shapes, "self_attn") for name in ("keys", "values"))]


class Encode(nn.Module):
    """Source sentence to the keys and values of the decoder's cross-attentions.

    Args:
        model: A translation model.
        padded: Take a mask, for batches of sentences of unequal length.
        shortlisted: Take candidates, and give the output projection's parts for them.

    Raises:
        ExportError: No decoder layer attends to the source.
    """

    def __init__(self, model: TPruneForConditionalGeneration, padded: bool, shortlisted: bool = False) -> None:
        super().__init__()
        if not cross_names(shapes_of(model)):
            raise ExportError("no decoder layer attends to the source", fix="keep at least one cross-attention")
        self.model, self.padded, self.shortlisted = model, padded, shortlisted
        self.eval()

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Tensors in the order of `encode_inputs` -> tensors in the order of `cross_names` and `output_names`."""
        states = self.model.encoder(inputs[0], inputs[1] if self.padded else None).last_hidden_state
        cross = tuple(tensor for pair in self.model.cross(states) if pair is not None for tensor in pair)
        return (*cross, *_output_parts(self.model, inputs[-1])) if self.shortlisted else cross

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
        shortlisted: Take the output projection's parts for the candidates.
    """

    def __init__(self, model: TPruneForConditionalGeneration, padded: bool, shortlisted: bool = False) -> None:
        super().__init__()
        self.model, self.padded, self.shapes = model, padded, shapes_of(model)
        self.output = output_names(model) if shortlisted else []
        self.eval()

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Tensors in the order of `step_inputs` -> tensors in the order of `step_outputs`."""
        given = dict(zip(step_inputs(self.shapes, self.padded, self.output), inputs, strict=True))
        grown: dict[int, tuple[Tensor, Tensor]] = {}

        def grow(layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
            grown[layer] = (
                torch.cat([given[f"past_keys_{layer}"], keys], dim=2),
                torch.cat([given[f"past_values_{layer}"], values], dim=2),
            )
            return grown[layer]

        crossing = set(_layers(self.shapes, "cross_attn"))
        cross = [
            (given[f"cross_keys_{layer}"], given[f"cross_values_{layer}"]) if layer in crossing else None
            for layer in range(len(self.shapes))
        ]
        mask = given["source_mask"][:, None, None, :].bool() if self.padded else None
        states = self.model.decode(given["tokens"], cross, mask, start=given["position"], grow=grow)
        logits = states @ given["output_weight"] if self.output else self.model.logits(states)
        if "output_bias" in given:
            logits = logits + given["output_bias"]
        return logits, *(tensor for layer in sorted(grown) for tensor in grown[layer])

    def example(self, batch: int) -> tuple[Tensor, ...]:
        """Inputs to trace with."""
        source, past = 3, 5
        mask = [torch.ones(batch, source, dtype=torch.long)] if self.padded else []
        return (
            torch.ones(batch, dtype=torch.long),
            torch.tensor([past]),
            *mask,
            *_caches(self.shapes, "self_attn", batch, past),
            *_caches(self.shapes, "cross_attn", batch, source),
            *(part.detach() for part in _output_parts(self.model, torch.arange(FEW)) if self.output),
        )


def prepared(model: TPruneForConditionalGeneration) -> TPruneForConditionalGeneration:
    """A copy to trace: the same function with fewer and larger operators, each product a module of its own."""
    copied = deepcopy(model)
    for layer in (*copied.encoder.layers, *copied.decoder.layers):
        if layer.self_attn is not None:
            layer.self_attn.pack()
    output = nn.Linear(copied.config.d_model, size_of(copied), bias=copied.output_bias is not None)
    tied = (copied.target_embed or copied.embed) if copied.lm_head is None else copied.lm_head
    with torch.no_grad():
        output.weight.copy_(tied.weight)
        if copied.output_bias is not None:
            output.bias.copy_(copied.output_bias)
    copied.lm_head, copied.output_bias = output, None
    return copied


def size_of(model: TPruneForConditionalGeneration) -> int:
    """Number of target tokens N."""
    return int(model.config.target_vocab_size or model.config.vocab_size)


def shapes_of(model: TPruneForConditionalGeneration) -> list[Mapping[str, Any]]:
    """The decoder's shape by layer, as the model's configuration holds it."""
    return list(model.config.decoder_shapes)


def cache_shapes(shapes: Sequence[Mapping[str, Any]], kind: str, batch: int, length: int) -> list[tuple[int, ...]]:
    """Shapes of the caches of `past_names` (kind self_attn) or `cross_names` (kind cross_attn)."""
    return [
        (batch, shapes[layer][kind]["heads"], length, shapes[layer][kind][width])
        for layer in _layers(shapes, kind)
        for width in ("qk", "v")
    ]


def _output_parts(model: TPruneForConditionalGeneration, candidates: Tensor) -> tuple[Tensor, ...]:
    """The output projection for (C,) candidates, in the order of `output_names`.

    The weight lies as a product with one row reads it fastest, so that it is turned once and not at every step.
    """
    table = (model.target_embed or model.embed) if model.lm_head is None else model.lm_head
    bias = _output_bias(model)
    weight = table.weight.index_select(0, candidates).T  # (D, C)
    return (weight,) if bias is None else (weight, bias.index_select(0, candidates))


def _output_bias(model: TPruneForConditionalGeneration) -> Tensor | None:
    folded = None if model.lm_head is None else model.lm_head.bias  # by `prepared`
    return model.output_bias if folded is None else folded


def _caches(shapes: Sequence[Mapping[str, Any]], kind: str, batch: int, length: int) -> list[Tensor]:
    return [torch.zeros(shape) for shape in cache_shapes(shapes, kind, batch, length)]


def _layers(shapes: Sequence[Mapping[str, Any]], kind: str) -> list[int]:
    return [index for index, shape in enumerate(shapes) if shape[kind]["heads"]]
