"""Attention of the newest token to a growing cache, as one operator that every exporter writes in its engine's way.

Traced from plain PyTorch it would be a dozen operators; an engine that has one for it never sees that it was one.

Shapes: B batch, P cached target length, H heads, K query/key width of a head, V value width of a head.
"""

import torch
from torch import Tensor


@torch.library.custom_op("tprune::cached_attention", mutates_args=())
def cached_attention(
    query: Tensor, keys: Tensor, values: Tensor, past_keys: Tensor, past_values: Tensor, scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Attend to the cache and to the token itself.

    Args:
        query: Of one token a row: (B, 1, H*K).
        keys: (B, 1, H*K).
        values: (B, 1, H*V).
        past_keys: (B, H, P, K).
        past_values: (B, H, P, V).
        scale: Of the products of query and keys.

    Returns:
        The attended values (B, 1, H*V), keys (B, H, P+1, K) and values (B, H, P+1, V).
    """
    return plain(query, keys, values, past_keys, past_values, scale)


@cached_attention.register_fake
def _(
    query: Tensor, keys: Tensor, values: Tensor, past_keys: Tensor, past_values: Tensor, scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    batch, heads, length, width = past_keys.shape
    return (
        torch.empty_like(values),
        keys.new_empty(batch, heads, length + 1, width),
        values.new_empty(batch, heads, length + 1, past_values.shape[3]),
    )


def plain(
    query: Tensor, keys: Tensor, values: Tensor, past_keys: Tensor, past_values: Tensor, scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    """`cached_attention` in operators that every backend has."""
    heads, width = past_keys.shape[1], past_keys.shape[3]
    query, keys = (x.view(-1, heads, 1, width) for x in (query, keys))
    keys = torch.cat([past_keys, keys], dim=2)
    values = torch.cat([past_values, values.view(-1, heads, 1, past_values.shape[3])], dim=2)
    # (B, H, ...) -> (B*H, ...): a product of four dimensions would be broadcast, in operators that backends lack
    q, k, v = (x.flatten(0, 1) for x in (query, keys, values))
    weights = torch.softmax(torch.bmm(q * scale, k.transpose(1, 2)), dim=-1)  # (B*H, 1, P+1)
    return torch.bmm(weights, v).view(-1, 1, heads * v.shape[2]), keys, values
