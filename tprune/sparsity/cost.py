"""What a model costs: parameters, and multiply-accumulate operations of one translation.

FLOPs are counted as 2 x multiply-accumulates of matrix products for a source of S tokens and T
greedy decoding steps with cached keys and values; the encoder and the cross-attention's keys and
values run once.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from tprune.model.shape import TPruneConfig
from tprune.sparsity.lines import STACKS, is_there, layer_shapes

SOURCE_TOKENS, TARGET_TOKENS = 20, 25  # the sentence every count is made for


def total(config: TPruneConfig, quantity: str, shapes: Mapping[str, Sequence[Mapping[str, Any]]] | None = None) -> int:
    """Parameters or FLOPs of a whole model, with its own or with other layer shapes."""
    shapes = shapes or {stack: layer_shapes(config, stack) for stack in STACKS}
    layers = sum(
        sublayer(quantity, config.d_model, stack, name, shape)
        for stack in STACKS
        for layer in shapes[stack]
        for name, shape in layer.items()
    )
    return layers + _rest(config, quantity)


def sublayer(quantity: str, d_model: int, stack: str, name: str, shape: Any) -> int:
    """Parameters or FLOPs of one sub-layer; 0 when it is gone.

    Args:
        quantity: "parameters" or "flops".
        d_model: Width of the residual stream.
        stack: "encoder" or "decoder".
        name: "self_attn", "cross_attn" or "ffn".
        shape: {"heads", "qk", "v"} or the feed-forward width.
    """
    if not is_there(shape):
        return 0
    if name == "ffn":
        width: int = shape
        if quantity == "parameters":
            return 2 * width * d_model + width + 3 * d_model  # two maps, their biases, the norm
        return 2 * 2 * width * d_model * (SOURCE_TOKENS if stack == "encoder" else TARGET_TOKENS)
    qk: int = shape["heads"] * shape["qk"]
    v: int = shape["heads"] * shape["v"]
    if quantity == "parameters":
        return 2 * (qk + v) * d_model + 2 * qk + v + 3 * d_model
    queries = SOURCE_TOKENS if stack == "encoder" else TARGET_TOKENS
    keys = TARGET_TOKENS if stack == "decoder" and name == "self_attn" else SOURCE_TOKENS
    pairs = TARGET_TOKENS * (TARGET_TOKENS + 1) // 2 if name == "self_attn" and stack == "decoder" else queries * keys
    projections = (qk + v) * d_model * (queries + keys)  # Q and O for every query, K and V for every key
    return 2 * (projections + (qk + v) * pairs)


def _rest(config: TPruneConfig, quantity: str) -> int:
    size = config.output_size
    if quantity == "flops":
        return 2 * config.d_model * size * TARGET_TOKENS
    tables = config.vocab_size + (config.target_vocab_size or 0) + (0 if config.tie_output else size)
    positions = (config.max_positions + config.position_offset) * (2 if config.positions == "learned" else 1)
    norms = 2 * (int(config.final_norm) + int(config.embedding_norm)) * 2
    return (tables + positions + norms) * config.d_model + (size if config.output_bias else 0)
