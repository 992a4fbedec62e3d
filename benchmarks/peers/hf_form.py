"""Our dense model in an architecture that Hugging Face's library itself has, for tools that know no other.

Pegasus is the one with sub-layers normalized first, a normalization behind each stack, sinusoidal positions, and one
embedding for source, target and output; Marian is the same with sub-layers normalized last and none behind the stacks.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor
from transformers import MarianConfig, MarianMTModel, PegasusConfig, PegasusForConditionalGeneration, PreTrainedModel

from tprune.benchmarks.peers.peer import one_shape
from tprune.errors import ModelError
from tprune.model.convert import RENAMES
from tprune.model.transformer import TPruneForConditionalGeneration

FORM = "Hugging Face's Pegasus or Marian"
ARCHITECTURES: Mapping[tuple[str, bool], tuple[Any, Any]] = {
    ("pre", True): (PegasusConfig, PegasusForConditionalGeneration),
    ("post", False): (MarianConfig, MarianMTModel),
}  # by place of the normalizations and whether there is one behind each stack
ACTIVATIONS = ("relu", "gelu", "silu")


def to_hugging_face(model: TPruneForConditionalGeneration) -> PreTrainedModel:
    """Build the equal model, in evaluation mode; the weights are copied.

    Raises:
        ModelError: Neither architecture has a place for something in the model.
    """
    config = model.config
    heads = one_shape(config, FORM, ACTIVATIONS)
    ffn = {stack: [shape["ffn"] for shape in getattr(config, f"{stack}_shapes")] for stack in ("encoder", "decoder")}
    plain = (
        config.positions == "sinusoidal"
        and not config.position_offset
        and not config.embedding_norm
        and config.tie_output
        and config.target_vocab_size is None
        and all(len(set(widths)) == 1 for widths in ffn.values())
    )
    if not plain or (config.norm, bool(config.final_norm)) not in ARCHITECTURES:
        raise ModelError(
            f"{FORM} does not know this model",
            wanted="one width of feed-forward in a stack, sinusoidal positions, one embedding for all, and either "
            "sub-layers normalized first and a final normalization or neither",
            fix="compare with a model that tprune made",
        )
    config_class, model_class = ARCHITECTURES[config.norm, bool(config.final_norm)]
    other = model_class(
        config_class(
            vocab_size=config.vocab_size,
            d_model=config.d_model,
            encoder_layers=len(ffn["encoder"]),
            decoder_layers=len(ffn["decoder"]),
            encoder_attention_heads=heads,
            decoder_attention_heads=heads,
            encoder_ffn_dim=ffn["encoder"][0],
            decoder_ffn_dim=ffn["decoder"][0],
            activation_function=config.activation,
            scale_embedding=config.embedding_scale != 1,
            max_position_embeddings=config.max_positions,
            pad_token_id=config.pad_token_id,
            eos_token_id=config.eos_token_id,
            bos_token_id=config.bos_token_id,
            decoder_start_token_id=config.decoder_start_token_id,
            forced_eos_token_id=None,
        )
    )
    other.load_state_dict(dict(_weights(model, other)))
    return other.eval()


def _weights(model: TPruneForConditionalGeneration, other: PreTrainedModel) -> Iterator[tuple[str, Tensor]]:
    """The other model's weights by its own names."""
    ours = {}
    for name, tensor in model.state_dict().items():
        for theirs, own in RENAMES:
            name = name.replace(own, theirs)  # noqa: PLW2901
        ours[f"model.{name}"] = tensor
    for name, tensor in other.state_dict().items():
        if name == "final_logits_bias":
            yield name, tensor.zero_() if model.output_bias is None else model.output_bias[None]
        elif name.endswith("embed_positions.weight"):
            yield name, model.positions.weight
        elif name.endswith(("shared.weight", "embed_tokens.weight", "lm_head.weight")):
            yield name, model.embed.weight
        else:
            yield name, ours[name]
