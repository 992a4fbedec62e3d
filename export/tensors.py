"""Names and shapes of what goes into a bundle's graphs and comes out, for exporters and engines alike.

Shapes: B batch, S source length, P cached target length, H heads, K query/key width of a head,
V value width of a head, N vocabulary.
"""

from collections.abc import Mapping, Sequence
from typing import Any

ENCODE, DECODE_STEP, TRANSLATE, BUFFERED_STEP = "encode", "decode_step", "translate", "buffered_step"


def cross_names(shapes: Sequence[Mapping[str, Any]]) -> list[str]:
    """Names of the tensors that go from `encode` to every `decode_step`: (B, H, S, K) and (B, H, S, V) by layer."""
    return [name for layer in layers(shapes, "cross_attn") for name in (f"cross_keys_{layer}", f"cross_values_{layer}")]


def past_names(shapes: Sequence[Mapping[str, Any]]) -> list[str]:
    """Names of the cache that goes into `decode_step`: (B, H, P, K) and (B, H, P, V) by layer."""
    return [f"past_{name}_{layer}" for layer in layers(shapes, "self_attn") for name in ("keys", "values")]


def encode_inputs(padded: bool) -> list[str]:
    """Names of the inputs of `encode`: source (B, S) and, where sentences may be padded, source_mask (B, S)."""
    return ["source", "source_mask"] if padded else ["source"]


def step_inputs(shapes: Sequence[Mapping[str, Any]], padded: bool) -> list[str]:
    """Names of the inputs of `decode_step`: tokens (B,), position (1,), the caches and maybe source_mask (B, S)."""
    return ["tokens", "position", *(["source_mask"] if padded else []), *past_names(shapes), *cross_names(shapes)]


def step_outputs(shapes: Sequence[Mapping[str, Any]]) -> list[str]:
    """Names of the outputs of `decode_step`: logits (B, N) and the caches with P+1 positions."""
    return ["logits", *(f"new_{name}_{layer}" for layer in layers(shapes, "self_attn") for name in ("keys", "values"))]


def cache_shapes(
    shapes: Sequence[Mapping[str, Any]], kind: str, batch: int, length: int, heads_last: bool = False
) -> list[tuple[int, ...]]:
    """Shapes of the caches of `past_names` (kind self_attn) or `cross_names` (kind cross_attn).

    They are (batch, heads, length, width), or with `heads_last` (batch, length, heads, width).
    """
    found = []
    for shape in (shapes[layer][kind] for layer in layers(shapes, kind)):
        sizes = (length, shape["heads"]) if heads_last else (shape["heads"], length)
        found += [(batch, *sizes, shape["qk"]), (batch, *sizes, shape["v"])]
    return found


def layers(shapes: Sequence[Mapping[str, Any]], kind: str) -> list[int]:
    """Decoder layers that have an attention of this kind, self_attn or cross_attn."""
    return [index for index, shape in enumerate(shapes) if shape[kind]["heads"]]
