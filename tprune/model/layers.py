"""The sub-layers of the encoder-decoder, each with its own widths.

Shapes: B batch, S source length, T target length, P cached target length, D model width, H heads,
K query/key width of a head, V value width of a head, F feed-forward width, N vocabulary.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.modeling_outputs import BaseModelOutput

from tprune.model.shape import TPruneConfig

KeysValues = tuple[Tensor, Tensor]
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "gelu": F.gelu,
    "gelu_new": partial(F.gelu, approximate="tanh"),
    "silu": F.silu,
}


class Positions(nn.Embedding):
    """Position table (max_positions + offset, D); frozen when sinusoidal."""

    def __init__(self, config: TPruneConfig) -> None:
        super().__init__(config.max_positions + config.position_offset, config.d_model)
        self.offset = config.position_offset
        self.sinusoidal = config.positions == "sinusoidal"
        self.weight.requires_grad_(not self.sinusoidal)

    def at(self, start: int | Tensor, length: int) -> Tensor:
        """Rows for `length` tokens from position `start`: (length, D)."""
        index = torch.arange(length, device=self.weight.device) + start + self.offset
        return self(index)  # type: ignore[no-any-return]


class Attention(nn.Module):
    """Multi-head attention as a residual sub-layer; `cross` reads keys and values from the encoder."""

    def __init__(self, config: TPruneConfig, shape: dict[str, Any], *, cross: bool = False) -> None:
        super().__init__()
        self.heads, self.qk, self.v, self.scale = shape["heads"], shape["qk"], shape["v"], shape["scale"]
        self.cross, self.pre_norm = cross, config.norm == "pre"
        self.dropout, self.attention_dropout = config.dropout, config.attention_dropout
        width = config.d_model
        self.q_proj = nn.Linear(width, self.heads * self.qk)
        self.k_proj = nn.Linear(width, self.heads * self.qk)
        self.v_proj = nn.Linear(width, self.heads * self.v)
        self.o_proj = nn.Linear(self.heads * self.v, width)
        self.qkv_proj: nn.Linear | None = None
        self.norm = nn.LayerNorm(width)

    def keys_values(self, x: Tensor) -> KeysValues:
        """Project (B, S, D) to keys (B, H, S, K) and values (B, H, S, V)."""
        return self._heads(self.k_proj(x), self.qk), self._heads(self.v_proj(x), self.v)

    def pack(self) -> None:
        """Turn the three projections into one `qkv_proj`: one large product instead of three small ones.

        For engines whose cost per operator counts; the parameters' names change, so do it right before an export.
        """
        parts = (self.q_proj, self.k_proj, self.v_proj)
        packed = nn.Linear(self.q_proj.in_features, sum(part.out_features for part in parts))
        with torch.no_grad():
            packed.weight.copy_(torch.cat([part.weight for part in parts]))
            packed.bias.copy_(torch.cat([part.bias for part in parts]))
        self.qkv_proj = packed
        del self.q_proj, self.k_proj, self.v_proj

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None = None,
        *,
        known: KeysValues | None = None,
        grow: Callable[[Tensor, Tensor], KeysValues] | None = None,
        causal: bool = False,
    ) -> Tensor:
        """(B, T, D) -> (B, T, D), or for one token a row (B, D) -> (B, D), which spares engines the transposes.

        Args:
            x: The residual stream.
            mask: True where attending is allowed, broadcastable to (B, H, T, S).
            known: Attend to these keys (B, H, S, K) and values (B, H, S, V) instead of to `x`.
            grow: Gives all keys and values of `x` so far from its newest ones.
            causal: Mask the future of an uncached sequence instead of giving `mask`.
        """
        return self.around(x, lambda y: self._attend(y, mask, known, grow, causal))

    def around(self, x: Tensor, attend: Callable[[Tensor], Tensor]) -> Tensor:
        """The residual sub-layer around an inner attention, which turns (B, T, D) or (B, D) into (…, H*V)."""
        y = attend(self.norm(x) if self.pre_norm else x)
        x = x + dropout(self.o_proj(y), self.dropout, self.training)
        return x if self.pre_norm else self.norm(x)

    def _attend(
        self,
        y: Tensor,
        mask: Tensor | None,
        known: KeysValues | None,
        grow: Callable[[Tensor, Tensor], KeysValues] | None,
        causal: bool,
    ) -> Tensor:
        if known is not None:
            query, (keys, values) = self._heads(self.q_proj(y), self.qk), known
        else:
            query, keys, values = self._project(y)
            if grow is not None:
                keys, values = grow(keys, values)
        z = F.scaled_dot_product_attention(
            query,
            keys,
            values,
            attn_mask=mask,
            is_causal=causal,
            scale=self.scale,
            dropout_p=self.attention_dropout if self.training else 0.0,
        )  # (B, H, T, V)
        return z.transpose(1, 2).flatten(2) if y.dim() == 3 else z.flatten(1)

    def _project(self, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        # (B, T, D) -> queries, keys (B, H, T, K), values (B, H, T, V)
        if self.qkv_proj is None:
            return self._heads(self.q_proj(y), self.qk), *self.keys_values(y)
        query, keys, values = self.project_packed(y)
        return self._heads(query, self.qk), self._heads(keys, self.qk), self._heads(values, self.v)

    def project_packed(self, y: Tensor) -> tuple[Tensor, ...]:
        """After `pack`: (B, T, D) -> queries and keys (B, T, H*K), values (B, T, H*V)."""
        assert self.qkv_proj is not None
        return self.qkv_proj(y).split([self.heads * width for width in (self.qk, self.qk, self.v)], -1)  # type: ignore[no-any-return]

    def _heads(self, x: Tensor, width: int) -> Tensor:
        # (B, T, H*W) or (B, H*W) -> (B, H, T, W)
        if x.dim() == 2:
            return x.view(-1, self.heads, 1, width)
        return x.unflatten(-1, (self.heads, width)).transpose(1, 2)  # type: ignore[no-any-return, no-untyped-call]


class FeedForward(nn.Module):
    """Two linear maps around an activation, as a residual sub-layer."""

    def __init__(self, config: TPruneConfig, width: int) -> None:
        super().__init__()
        self.pre_norm, self.activation = config.norm == "pre", ACTIVATIONS[config.activation]
        self.dropout, self.activation_dropout = config.dropout, config.activation_dropout
        self.fc1 = nn.Linear(config.d_model, width)
        self.fc2 = nn.Linear(width, config.d_model)
        self.norm = nn.LayerNorm(config.d_model)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        y = self.activation(self.fc1(self.norm(x) if self.pre_norm else x))  # (B, T, F)
        y = self.fc2(dropout(y, self.activation_dropout, self.training))
        x = x + dropout(y, self.dropout, self.training)
        return x if self.pre_norm else self.norm(x)


class Layer(nn.Module):
    """The sub-layers that are there; a missing one is the identity."""

    def __init__(self, config: TPruneConfig, shape: dict[str, Any]) -> None:
        super().__init__()
        self.self_attn = Attention(config, shape["self_attn"]) if shape["self_attn"]["heads"] else None
        cross = shape.get("cross_attn")
        self.cross_attn = Attention(config, cross, cross=True) if cross and cross["heads"] else None
        self.ffn = FeedForward(config, shape["ffn"]) if shape["ffn"] else None


class Stack(nn.Module):
    """Encoder or decoder: layers between an optional embedding norm and an optional final norm."""

    def __init__(self, config: TPruneConfig, shapes: Sequence[dict[str, Any]]) -> None:
        super().__init__()
        self.embedding_norm = nn.LayerNorm(config.d_model) if config.embedding_norm else None
        # a ModuleList, which for mypy holds any module
        self.layers: Sequence[Layer] = nn.ModuleList(Layer(config, shape) for shape in shapes)  # type: ignore[assignment]
        self.final_norm = nn.LayerNorm(config.d_model) if config.final_norm else None

    def finish(self, x: Tensor) -> Tensor:
        """What comes after the last layer: (..., D) -> (..., D)."""
        return x if self.final_norm is None else self.final_norm(x)


class Encoder(Stack):
    """What `generate` calls as the encoder: token ids in, states out."""

    main_input_name = "input_ids"

    def __init__(self, config: TPruneConfig, embed: Callable[..., Tensor]) -> None:
        super().__init__(config, config.encoder_shapes or [])
        self.embed = embed

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None, **_: Any) -> BaseModelOutput:
        """(B, S) token ids and mask (1 = token, 0 = padding) -> last_hidden_state (B, S, D)."""
        mask = None if attention_mask is None else attention_mask[:, None, None, :].bool()
        x = self.embed(self, input_ids, 0)
        for layer in self.layers:
            if layer.self_attn is not None:
                x = layer.self_attn(x, mask)
            if layer.ffn is not None:
                x = layer.ffn(x)
        return BaseModelOutput(last_hidden_state=self.finish(x))


def dropout(x: Tensor, rate: float, training: bool) -> Tensor:
    """`F.dropout`, at a tenth of its time on a CPU: one random byte an element, so the rate is in steps of 1/256.

    torch draws a float for every element with one thread, which took a fifth of a whole training step.
    """
    if not training or not rate or x.device.type != "cpu":
        return F.dropout(x, rate, training)
    dropped = min(255, round(rate * 256))
    random = torch.empty(-(-x.numel() // 8), dtype=torch.int64).random_(-(2**63), None)
    kept = random.view(torch.uint8)[: x.numel()].view(x.shape) >= dropped
    return x * kept.to(x.dtype).mul_(256 / (256 - dropped))


def sinusoids(length: int, width: int) -> Tensor:
    """Sine half and cosine half of Vaswani et al. 2017, section 3.5: (length, width)."""
    half = (width + 1) // 2
    angles = torch.arange(length, dtype=torch.float64)[:, None] * torch.exp(
        torch.arange(half, dtype=torch.float64) * (-2 * math.log(10000.0) / width)
    )
    return torch.cat([angles.sin(), angles.cos()], dim=1)[:, :width].float()
