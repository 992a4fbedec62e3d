"""Our dense model in CTranslate2's format, written through its own converter.

Shapes: D model width, N vocabulary.
"""

from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from ctranslate2.converters import utils
from ctranslate2.converters.converter import Converter
from ctranslate2.specs import common_spec, transformer_spec
from torch import nn

from tprune.benchmarks.peers.ct2 import COMPUTE, open_translator
from tprune.benchmarks.peers.peer import Peer, one_shape
from tprune.model.layers import Attention, FeedForward, Stack
from tprune.model.transformer import TPruneForConditionalGeneration

ACTIVATIONS = {
    "relu": common_spec.Activation.RELU,
    "gelu": common_spec.Activation.GELU,
    "silu": common_spec.Activation.SWISH,
}


def convert(model: TPruneForConditionalGeneration, out: Path, precision: str) -> None:
    """Write a model in CTranslate2's format.

    Args:
        model: A dense model: all layers of one shape, which is what the format knows.
        out: Directory to write.
        precision: fp32 or int8.

    Raises:
        ModelError: The format has no place for something in the model.
    """
    _OwnConverter(model).convert(str(out), quantization=COMPUTE[precision])


class _OwnConverter(Converter):  # type: ignore[misc]
    def __init__(self, model: TPruneForConditionalGeneration) -> None:
        self.model = model.eval()

    def _load(self) -> Any:
        config = self.model.config
        heads = one_shape(config, "CTranslate2's format", ACTIVATIONS)
        spec = transformer_spec.TransformerSpec.from_config(
            (len(config.encoder_shapes), len(config.decoder_shapes)),
            heads,
            pre_norm=config.norm == "pre",
            no_final_norm=not config.final_norm,
            activation=ACTIVATIONS[config.activation],
            layernorm_embedding=bool(config.embedding_norm),
        )
        with torch.no_grad():
            self._fill(spec)
        names = [str(token) for token in range(config.vocab_size)]
        spec.register_source_vocabulary(names)
        spec.register_target_vocabulary([str(token) for token in range(config.target_vocab_size or config.vocab_size)])
        spec.config.bos_token = spec.config.decoder_start_token = str(config.decoder_start_token_id)
        spec.config.eos_token = str(config.eos_token_id)
        spec.config.unk_token = str(config.pad_token_id)
        return spec

    def _fill(self, spec: Any) -> None:
        model = self.model
        target = model.target_embed or model.embed
        self._stack(spec.encoder, spec.encoder.embeddings[0], model.encoder, model.embed, model.positions)
        self._stack(
            spec.decoder, spec.decoder.embeddings, model.decoder, target, model.target_positions or model.positions
        )
        spec.decoder.projection.weight = _array((target if model.lm_head is None else model.lm_head).weight)
        if model.output_bias is not None:
            spec.decoder.projection.bias = _array(model.output_bias)

    def _stack(self, spec: Any, table: Any, stack: Stack, embed: nn.Embedding, positions: Any) -> None:
        config = self.model.config
        spec.scale_embeddings = config.embedding_scale != 1
        table.weight = _array(embed.weight)
        spec.position_encodings.encodings = _array(positions.weight[positions.offset :])
        if stack.embedding_norm is not None:
            _norm(spec.layernorm_embedding, stack.embedding_norm)
        if stack.final_norm is not None:
            _norm(spec.layer_norm, stack.final_norm)
        for layer_spec, layer in zip(spec.layer, stack.layers, strict=True):
            assert layer.self_attn is not None
            assert layer.ffn is not None
            _attention(layer_spec.self_attention, layer.self_attn)
            if layer.cross_attn is not None:
                _attention(layer_spec.attention, layer.cross_attn)
            _feed_forward(layer_spec.ffn, layer.ffn)


def _attention(spec: Any, attention: Attention) -> None:
    _norm(spec.layer_norm, attention.norm)
    *inner, output = spec.linear
    parts = [common_spec.LinearSpec() for _ in range(3)]
    for part, projection in zip(parts, (attention.q_proj, attention.k_proj, attention.v_proj), strict=True):
        _linear(part, projection)
    if len(inner) == 1:
        utils.fuse_linear(inner[0], parts)
    else:  # cross-attention: keys and values come from the encoder
        _linear(inner[0], attention.q_proj)
        utils.fuse_linear(inner[1], parts[1:])
    _linear(output, attention.o_proj)


def _feed_forward(spec: Any, ffn: FeedForward) -> None:
    _norm(spec.layer_norm, ffn.norm)
    _linear(spec.linear_0, ffn.fc1)
    _linear(spec.linear_1, ffn.fc2)


def _linear(spec: Any, linear: nn.Linear) -> None:
    spec.weight, spec.bias = _array(linear.weight), _array(linear.bias)


def _norm(spec: Any, norm: nn.LayerNorm) -> None:
    spec.gamma, spec.beta = _array(norm.weight), _array(norm.bias)


def _array(tensor: torch.Tensor) -> Any:
    return tensor.detach().float().numpy().copy()  # quantizing scales it in place


PEER = Peer(
    name="ctranslate2",
    precisions=("fp32", "int8"),
    version=lambda: version("ctranslate2"),
    weights="model.bin",
    convert=convert,
    open=open_translator,
    missing=lambda: None,
)
