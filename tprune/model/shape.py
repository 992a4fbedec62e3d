"""The configuration of a model: the shape of every layer, and its family's conventions."""

import math
from typing import Any, ClassVar

from transformers import PretrainedConfig


def attention_shape(heads: int, width: int) -> dict[str, Any]:
    """Shape of a dense attention: `heads` heads of `width` query/key and value dimensions."""
    return {"heads": heads, "qk": width, "v": width, "scale": width**-0.5}


class TPruneConfig(PretrainedConfig):
    """Shape of every layer, and the family's conventions.

    `encoder_shapes` is a list of `{"self_attn": {"heads", "qk", "v", "scale"}, "ffn": width}`; `decoder_shapes`
    likewise with `cross_attn`. `scale` multiplies the attention logits and stays that of the
    unpruned head. heads = 0 or ffn = 0 says that the sub-layer is gone.
    """

    model_type = "tprune"
    attribute_map: ClassVar[dict[str, str]] = {"hidden_size": "d_model"}
    keys_to_ignore_at_inference: ClassVar[list[str]] = ["past_key_values", "cache"]

    vocab_size: int = 8000
    target_vocab_size: int | None = None  # None: source and target share one embedding
    output_vocab_size: int | None = None  # only the first tokens can be produced; None: all that can be embedded
    d_model: int = 256
    encoder_shapes: list[dict[str, Any]] | None = None
    decoder_shapes: list[dict[str, Any]] | None = None
    norm: str = "pre"
    final_norm: bool = True
    embedding_norm: bool = False
    embedding_scale: float = 1.0
    positions: str = "sinusoidal"
    position_offset: int = 0
    max_positions: int = 512
    activation: str = "relu"
    tie_output: bool = True
    output_bias: bool = False
    dropout: float = 0.1
    attention_dropout: float = 0.0
    activation_dropout: float = 0.0
    use_cache: bool = True
    is_encoder_decoder: bool = True
    tie_word_embeddings: bool = False  # sharing is by construction, see `TPruneForConditionalGeneration`
    pad_token_id: int | None = 0
    eos_token_id: int | None = 1
    bos_token_id: int | None = None
    decoder_start_token_id: int | None = 0
    forced_bos_token_id: int | None = None

    @property
    def num_hidden_layers(self) -> int:
        """Decoder depth, which sizes Hugging Face's caches."""
        return len(self.decoder_shapes or ())

    @property
    def output_size(self) -> int:
        """Number N of tokens that can be produced: the first ones of the target embedding."""
        return self.output_vocab_size or self.target_vocab_size or self.vocab_size


def dense_config(
    *, d_model: int, heads: int, ffn: int, encoder_layers: int, decoder_layers: int, **rest: Any
) -> TPruneConfig:
    """Configuration of a dense model; `rest` are fields of TPruneConfig.

    The embedding is scaled by sqrt(d_model), as in Vaswani et al. 2017, section 3.4.
    """

    def attention() -> dict[str, Any]:
        return attention_shape(heads, d_model // heads)

    rest.setdefault("embedding_scale", math.sqrt(d_model))
    return TPruneConfig(
        d_model=d_model,
        encoder_shapes=[{"self_attn": attention(), "ffn": ffn} for _ in range(encoder_layers)],
        decoder_shapes=[
            {"self_attn": attention(), "cross_attn": attention(), "ffn": ffn} for _ in range(decoder_layers)
        ],
        final_norm=rest.pop("final_norm", rest.get("norm", "pre") == "pre"),
        **rest,
    )
