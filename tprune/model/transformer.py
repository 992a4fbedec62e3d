"""One encoder-decoder Transformer whose every layer has its own widths.

It covers Marian (opus-mt), BART, mBART and M2M100/NLLB, dense or pruned: heads per layer, widths
per head, hidden width of each feed-forward network and depth are free. A sub-layer of width 0 is
gone: it is the identity, its normalization included.

Shapes: B batch, S source length, T target length, P cached target length, D model width, H heads,
K query/key width of a head, V value width of a head, N tokens that can be produced.
"""

from collections.abc import Callable, Sequence
from dataclasses import fields
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import (
    AutoConfig,
    AutoModelForSeq2SeqLM,
    Cache,
    DynamicCache,
    EncoderDecoderCache,
    GenerationMixin,
    PreTrainedModel,
)
from transformers import initialization as init
from transformers.modeling_outputs import BaseModelOutput, Seq2SeqLMOutput

from tprune.model.layers import Encoder, KeysValues, Positions, Stack, dropout, sinusoids
from tprune.model.shape import TPruneConfig

Grow = Callable[[int, Tensor, Tensor], KeysValues]
CACHE = "cache" if "cache" in {field.name for field in fields(Seq2SeqLMOutput)} else "past_key_values"
"""What this version of transformers calls the cache: 5.24 gave it another name."""


class TPruneForConditionalGeneration(PreTrainedModel, GenerationMixin):
    """Translation model with per-layer widths; an ordinary Hugging Face model.

    Source, target and output embeddings are one parameter unless the configuration separates them.
    """

    config_class = TPruneConfig
    base_model_prefix = ""
    main_input_name = "input_ids"
    _supports_sdpa = True
    _no_split_modules: ClassVar[list[str]] = ["Layer"]

    def __init__(self, config: TPruneConfig) -> None:
        super().__init__(config)
        target_size = config.target_vocab_size
        self.embed = nn.Embedding(config.vocab_size, config.d_model)
        self.target_embed = nn.Embedding(target_size, config.d_model) if target_size else None
        self.positions = Positions(config)
        self.target_positions = Positions(config) if config.positions == "learned" else None
        # a bound method, not a module: the encoder uses the shared embedding without owning it
        self.encoder = Encoder(config, self._embed_source)
        self.decoder = Stack(config, config.decoder_shapes or [])
        self.lm_head = None if config.tie_output else nn.Linear(config.d_model, config.output_size, bias=False)
        self.output_bias = nn.Parameter(torch.zeros(config.output_size)) if config.output_bias else None
        self.post_init()

    def cross(self, states: Tensor) -> list[KeysValues | None]:
        """Keys and values of every cross-attention for encoder states (B, S, D); None where it is gone."""
        return [
            None if layer.cross_attn is None else layer.cross_attn.keys_values(states) for layer in self.decoder.layers
        ]

    def decode(
        self,
        tokens: Tensor,
        cross: Sequence[KeysValues | None],
        source_mask: Tensor | None,
        *,
        start: int | Tensor = 0,
        grow: Grow | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """Run the decoder on target tokens (B, T) -> states (B, T, D).

        Args:
            tokens: Decoder inputs; (B,) for one token a row, which gives states (B, D).
            cross: Keys and values of `cross`, by layer.
            source_mask: (B, 1, 1, S), True for tokens.
            start: Position of the first token, that is the number of cached ones.
            grow: Takes (layer, new keys, new values), gives all keys (B, H, P+T, K) and values
                (B, H, P+T, V) so far; None: there is no cache.
            mask: (B, 1, T, P+T) self-attention mask; None: causal without a cache, else unmasked.
        """
        x = self.embed_target(tokens, start)
        for index, layer in enumerate(self.decoder.layers):
            if layer.self_attn is not None:
                own = None if grow is None else partial(grow, index)
                x = layer.self_attn(x, mask, grow=own, causal=mask is None and grow is None)
            if layer.cross_attn is not None:
                x = layer.cross_attn(x, source_mask, known=cross[index])
            if layer.ffn is not None:
                x = layer.ffn(x)
        return self.decoder.finish(x)

    def logits(self, states: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, N), or (B, D) -> (B, N)."""
        if self.lm_head is None:
            return F.linear(states, self.output_weight, self.output_bias)
        logits: Tensor = self.lm_head(states)
        return logits if self.output_bias is None else logits + self.output_bias

    @property
    def output_weight(self) -> Tensor:
        """The output projection's weight (N, D): a parameter of its own, or the embedding's first N rows."""
        if self.lm_head is not None:
            return self.lm_head.weight
        table = (self.target_embed or self.embed).weight
        return table if len(table) == self.config.output_size else table[: self.config.output_size]

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        decoder_input_ids: Tensor | None = None,
        decoder_attention_mask: Tensor | None = None,
        encoder_outputs: BaseModelOutput | None = None,
        past_key_values: EncoderDecoderCache | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        cache: EncoderDecoderCache | None = None,
        **others: Any,
    ) -> Seq2SeqLMOutput:
        """Hugging Face's calling convention.

        Args:
            input_ids: (B, S) source tokens.
            attention_mask: (B, S), 1 = token, 0 = padding.
            decoder_input_ids: (B, T); made from `labels` when absent.
            decoder_attention_mask: (B, P+T), 1 = token.
            encoder_outputs: What the encoder gave, to save running it.
            past_key_values: Grown in place.
            labels: (B, T) target tokens, -100 where there is nothing to predict.
            use_cache: Return a cache; off while training.
            cache: What transformers 5.24 and later call past_key_values.
            others: What other models know; not looked at.

        Returns:
            Logits (B, T, N), the mean token loss when labels are given, the cache.

        Raises:
            TypeError: A cache under a name that is not known: without it, translations would be wrong.
        """
        if unknown := [name for name, value in others.items() if isinstance(value, Cache)]:
            raise TypeError(f"a cache under an unknown name: {', '.join(unknown)}")
        if encoder_outputs is None:
            encoder_outputs = self.encoder(input_ids, attention_mask)
        if decoder_input_ids is None:
            assert labels is not None, "decoder_input_ids or labels"
            decoder_input_ids = self.prepare_decoder_input_ids_from_labels(labels)
        states = encoder_outputs[0]
        source_mask = None if attention_mask is None else attention_mask[:, None, None, :].bool()
        cached = labels is None and (self.config.use_cache if use_cache is None else use_cache)
        if not cached:
            x = self.decode(
                decoder_input_ids,
                self.cross(states),
                source_mask,
                mask=_self_mask(decoder_attention_mask, 0, decoder_input_ids.shape[1], states.device),
            )
        else:
            cache = past_key_values if cache is None else cache  # an empty cache is falsy, and still the caller's
            if cache is None:
                cache = EncoderDecoderCache(DynamicCache(), DynamicCache())
            x = self._decode_cached(decoder_input_ids, states, source_mask, decoder_attention_mask, cache)
        logits = self.logits(x)
        loss = None if labels is None else F.cross_entropy(logits.flatten(0, 1).float(), labels.flatten())
        kept = {CACHE: cache if cached else None}
        return Seq2SeqLMOutput(loss=loss, logits=logits, encoder_last_hidden_state=states, **kept)

    def _decode_cached(
        self,
        tokens: Tensor,
        states: Tensor,
        source_mask: Tensor | None,
        target_mask: Tensor | None,
        cache: EncoderDecoderCache,
    ) -> Tensor:
        own, memory = cache.self_attention_cache, cache.cross_attention_cache
        start, length = own.get_seq_length(), tokens.shape[1]
        if self.decoder.layers[0].self_attn is None:
            # The cache reads its length off layer 0: keep the clock there when nothing else does.
            own.update(states.new_zeros(len(tokens), 1, length, 1), states.new_zeros(len(tokens), 1, length, 1), 0)
        cross: list[KeysValues | None] = []
        for index, layer in enumerate(self.decoder.layers):
            if layer.cross_attn is None:
                cross.append(None)
            elif cache.is_updated.get(index):
                cross.append((memory.layers[index].keys, memory.layers[index].values))
            else:
                cross.append(memory.update(*layer.cross_attn.keys_values(states), index))
                cache.is_updated[index] = True
        mask = _self_mask(target_mask, start, length, states.device, cached=True)
        return self.decode(
            tokens,
            cross,
            source_mask,
            start=start,
            mask=mask,
            grow=lambda index, keys, values: own.update(keys, values, index),
        )

    def prepare_decoder_input_ids_from_labels(self, labels: Tensor) -> Tensor:
        """Shift (B, T) labels right behind the start token; -100 becomes padding."""
        shifted = labels.roll(1, dims=-1)
        shifted[:, 0] = self.config.decoder_start_token_id
        return shifted.masked_fill(shifted == -100, self.config.pad_token_id)

    def get_encoder(self, *_: Any, **__: Any) -> nn.Module:
        """The encoder, as `generate` wants it."""
        return self.encoder

    def get_input_embeddings(self) -> nn.Module:
        """The source embedding."""
        return self.embed

    def get_output_embeddings(self) -> nn.Module | None:
        """The output projection if it is a parameter of its own."""
        return self.lm_head

    def _embed_source(self, stack: Stack, tokens: Tensor, start: int) -> Tensor:
        return self._embed(stack, self.embed, self.positions, tokens, start)

    def embed_target(self, tokens: Tensor, start: int | Tensor) -> Tensor:
        """Target tokens (B, T) from position `start`, or (B,) at it -> (B, T, D) or (B, D)."""
        return self._embed(
            self.decoder, self.target_embed or self.embed, self.target_positions or self.positions, tokens, start
        )

    def _embed(
        self, stack: Stack, table: nn.Embedding, positions: Positions, tokens: Tensor, start: int | Tensor
    ) -> Tensor:
        x = table(tokens) * self.config.embedding_scale + positions.at(
            start, tokens.shape[-1] if tokens.dim() == 2 else 1
        )
        if stack.embedding_norm is not None:
            x = stack.embedding_norm(x)
        return dropout(x, self.config.dropout, self.training)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, Positions) and module.sinusoidal:
            init.copy_(module.weight, sinusoids(*module.weight.shape).to(module.weight.device))
        elif isinstance(module, nn.Embedding):
            init.normal_(module.weight, std=self.config.d_model**-0.5)
        elif isinstance(module, nn.Linear):
            init.xavier_uniform_(module.weight)
            if module.bias is not None:
                init.zeros_(module.bias)
        elif isinstance(module, nn.LayerNorm):
            init.ones_(module.weight)
            init.zeros_(module.bias)
        elif isinstance(module, TPruneForConditionalGeneration) and module.output_bias is not None:
            init.zeros_(module.output_bias)


def _self_mask(
    target_mask: Tensor | None, start: int, length: int, device: torch.device, cached: bool = False
) -> Tensor | None:
    """True where target position start+i may see j; None where SDPA's own causal or no mask will do."""
    if target_mask is None and (length == 1 or not cached):
        return None
    ahead = torch.ones(length, start + length, dtype=torch.bool, device=device).tril(start)[None, None]
    return ahead if target_mask is None else ahead & target_mask[:, None, None, :].bool()


AutoConfig.register(TPruneConfig.model_type, TPruneConfig)
AutoModelForSeq2SeqLM.register(TPruneConfig, TPruneForConditionalGeneration)
