"""Names and shapes of what goes into a bundle's graphs and comes out, for exporters and engines alike.

Shapes: B batch, S source length, P cached target length, H heads, K query/key width of a head,
V value width of a head, N vocabulary, C candidates.
"""

from collections.abc import Mapping, Sequence
from typing import Any

ENCODE, DECODE_STEP, TRANSLATE, BUFFERED_STEP = "encode", "decode_step", "translate", "buffered_step"
CANDIDATES = "candidates"


def cross_names(shapes: Sequence[Mapping[str, Any]]) -> list[str]:
    """Names of the tensors that go from `encode` to every `decode_step`: (B, H, S, K) and (B, H, S, V) by layer."""
    return [name for layer in layers(shapes, "cross_attn") for name in (f"cross_keys_{layer}", f"cross_values_{layer}")]


def past_names(shapes: Sequence[Mapping[str, Any]]) -> list[str]:
    """Names of the cache that goes into `decode_step`: (B, H, P, K) and (B, H, P, V) by layer."""
    return [f"past_{name}_{layer}" for layer in layers(shapes, "self_attn") for name in ("keys", "values")]


def encode_inputs(padded: bool, shortlisted: bool = False) -> list[str]:
    """Names of the inputs of `encode`: source (B, S), for padded sentences source_mask (B, S), candidates (C,)."""
    return ["source", *(["source_mask"] if padded else []), *([CANDIDATES] if shortlisted else [])]


def step_inputs(shapes: Sequence[Mapping[str, Any]], padded: bool, output: Sequence[str] = ()) -> list[str]:
    """Names of the inputs of `decode_step`: tokens (B,), position (1,), maybe source_mask (B, S), caches, `output`."""
    mask = ["source_mask"] if padded else []
    return ["tokens", "position", *mask, *past_names(shapes), *cross_names(shapes), *output]


def step_outputs(shapes: Sequence[Mapping[str, Any]]) -> list[str]:
    """Names of the outputs of `decode_step`: logits (B, N) or (B, C), and the caches with P+1 positions."""
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


def equal_shapes(shapes: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The decoder's shape by layer after `tprune.export.buffered.equal_widths`."""
    found: list[Mapping[str, Any]] = []
    for shape in shapes:
        widths = {kind: max(shape[kind]["qk"], shape[kind]["v"]) for kind in ("self_attn", "cross_attn")}
        found.append({**shape, **{kind: {**shape[kind], "qk": width, "v": width} for kind, width in widths.items()}})
    return found


def layers(shapes: Sequence[Mapping[str, Any]], kind: str) -> list[int]:
    """Decoder layers that have an attention of this kind, self_attn or cross_attn."""
    return [index for index, shape in enumerate(shapes) if shape[kind]["heads"]]
