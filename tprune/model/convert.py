"""Hugging Face's translation models as a TPruneForConditionalGeneration with equal logits.

The families differ in where they normalize, in their position tables and in what they tie; the
table at the foot says how. Weights come from safetensors only, code never comes from a checkpoint.
A model that is tprune's own already stays as it is, so that a run can start from another one's.
"""

import copy
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor
from transformers import PreTrainedModel

from tprune import artifact
from tprune.errors import SHOWN, InputError, ModelError
from tprune.model.checkpoint import load, read_config, save, weight_shapes
from tprune.model.layers import ACTIVATIONS
from tprune.model.origin import DOWNLOADED, language_token, load_original, load_tokenizer, local_directory
from tprune.model.shape import TPruneConfig, attention_shape
from tprune.model.transformer import TPruneForConditionalGeneration
from tprune.text import vocab
from tprune.text.languages import codes
from tprune.text.vocab import Tokenizer


@dataclass(frozen=True)
class Family:
    """What a Hugging Face architecture leaves out of its configuration.

    Attributes:
        norm: Normalize before ("pre") or after ("post") a sub-layer.
        final_norm: Normalize what leaves a stack.
        embedding_norm: Normalize what enters a stack.
        positions: "learned", one table a stack, or "sinusoidal".
        offset: Row of the first position; None: the one behind padding, as in fairseq.
    """

    norm: str
    final_norm: bool
    embedding_norm: bool
    positions: str
    offset: int | None


def convert(
    source: Path | str, out: Path, *, force: bool = False, languages: tuple[str, str] | None = None
) -> artifact.Artifact:
    """Write a Hugging Face checkpoint, or a model of tprune's, and its tokenizer as a "model" artifact.

    Args:
        source: A directory, or a name on the Hugging Face hub, also as NAME@REVISION.
        out: The artifact's directory.
        force: Replace an artifact at `out`.
        languages: Source and target language of a multilingual model, in its own codes; the model
            and its tokenizer then translate from the one to the other without being told.

    Raises:
        ModelError: Another architecture, pickled, damaged or incomplete weights, no tokenizer.
        InputError: No such model on the hub, no such language in the model, none told and none forced by it, or one
            told of a model that is tprune's.
        MachineError: The hub cannot be reached.
        ArtifactError: `out` exists.
    """
    path = local_directory(source)
    with artifact.create(out, "model", config=inputs(source, languages), force=force) as partial:
        if _is_ours(path):
            Tokenizer.load(path)  # or say why not
            save(load(path), partial)
            vocab.copy_files(path, partial)
        else:
            _write_converted(source, path, languages, partial)
    return artifact.read(out)


def inputs(source: Path | str, languages: tuple[str, str] | None) -> dict[str, Any]:
    """What a conversion depends on; see `convert` for arguments and errors."""
    path = local_directory(source)
    if not _is_ours(path):
        _family(read_config(path).get("model_type"), path)
    elif languages is not None:
        raise InputError(
            "a model of tprune's translates between the languages that it was made for",
            where=source,
            got=f"languages {' '.join(languages)}",
            fix="leave them out, or convert the original again",
        )
    weight_shapes(path, from_hub=path != Path(source))
    files = sorted({file for pattern in DOWNLOADED for file in path.glob(pattern)})
    return {
        "source": str(source),
        "languages": list(languages or ()),
        "files": {file.name: artifact.sha256(file) for file in files},
    }


def from_hugging_face(model: PreTrainedModel) -> TPruneForConditionalGeneration:
    """Build the equal model, in evaluation mode; the weights are copied.

    Raises:
        ModelError: Another architecture, or an activation function that is not supported.
    """
    old = model.config
    family = _family(old.model_type, type(model).__name__)
    source, target, output = (
        module.weight for module in (model.model.encoder.embed_tokens, model.model.decoder.embed_tokens, model.lm_head)
    )
    bias = getattr(model, "final_logits_bias", None)
    offset = old.pad_token_id + 1 if family.offset is None else family.offset
    config = TPruneConfig(
        vocab_size=len(source),
        target_vocab_size=None if source is target else len(target),
        d_model=old.d_model,
        encoder_shapes=[
            {"self_attn": _attention(old, old.encoder_attention_heads), "ffn": old.encoder_ffn_dim}
            for _ in range(old.encoder_layers)
        ],
        decoder_shapes=[
            {
                "self_attn": _attention(old, old.decoder_attention_heads),
                "cross_attn": _attention(old, old.decoder_attention_heads),
                "ffn": old.decoder_ffn_dim,
            }
            for _ in range(old.decoder_layers)
        ],
        norm=family.norm,
        final_norm=family.final_norm,
        embedding_norm=family.embedding_norm,
        embedding_scale=math.sqrt(old.d_model) if old.scale_embedding else 1.0,
        positions=family.positions,
        position_offset=offset,
        max_positions=old.max_position_embeddings,
        activation=_activation(old.activation_function),
        tie_output=output is target,
        output_bias=bias is not None and bool(bias.any()),
        dropout=old.dropout,
        attention_dropout=old.attention_dropout,
        activation_dropout=old.activation_dropout,
        **_special_tokens(model),
    )
    new = TPruneForConditionalGeneration(config)
    weights = dict(_layer_weights(model))
    weights["embed.weight"] = source
    weights["positions.weight"] = _position_table(model.model.encoder, config)
    if config.target_vocab_size is not None:
        weights["target_embed.weight"] = target
    if config.positions == "learned":
        weights["target_positions.weight"] = _position_table(model.model.decoder, config)
    if not config.tie_output:
        weights["lm_head.weight"] = output
    if bias is not None and config.output_bias:
        weights["output_bias"] = bias.flatten()
    new.load_state_dict(weights)
    new.generation_config = copy.deepcopy(model.generation_config)
    new.generation_config.decoder_start_token_id = config.decoder_start_token_id
    return new.eval()  # type: ignore[no-any-return]


def _write_converted(source: Path | str, path: Path, languages: tuple[str, str] | None, folder: Path) -> None:
    tokenizer = load_tokenizer(path, languages)
    model = from_hugging_face(load_original(path))
    if languages is None:
        _require_language(source, model, tokenizer)
    else:
        _translate_to(language_token(tokenizer, languages[1]), model, tokenizer)
    save(model, folder)
    tokenizer.save_pretrained(folder)


def _is_ours(path: Path) -> bool:
    return bool(read_config(path).get("model_type") == TPruneConfig.model_type)


def _family(model_type: object, where: object) -> Family:
    if model_type not in FAMILIES:
        raise ModelError(
            "unsupported architecture",
            where=where,
            got=f"model_type {model_type!r}",
            wanted=" | ".join(sorted(FAMILIES)) + " (opus-mt is marian, NLLB is m2m_100)",
            fix="choose a checkpoint of one of these",
        )
    return FAMILIES[str(model_type)]


def _attention(old: Any, heads: int) -> dict[str, Any]:
    return attention_shape(heads, old.d_model // heads)


def _activation(name: str) -> str:
    ours = ACTIVATION_NAMES.get(name, name)
    if ours not in ACTIVATIONS:
        raise ModelError(
            "unsupported activation function",
            where="activation_function",
            got=name,
            wanted=" | ".join(sorted({*ACTIVATIONS, *ACTIVATION_NAMES})),
        )
    return ours


def _special_tokens(model: PreTrainedModel) -> dict[str, int | None]:
    """Token ids as `generate` reads them: its own settings go before the model's configuration."""
    ids = {}
    for key in ("pad_token_id", "bos_token_id", "eos_token_id", "decoder_start_token_id", "forced_bos_token_id"):
        found = getattr(model.generation_config, key, None)
        if found is None and not key.startswith("forced"):
            found = getattr(model.config, key, None)
        if isinstance(found, list):
            if len(found) != 1:
                raise ModelError("one token is supported", where=f"generation settings, {key}", got=found)
            found = found[0]
        ids[key] = found
    if ids["decoder_start_token_id"] is None:
        ids["decoder_start_token_id"] = ids["bos_token_id"]
    return ids


def _require_language(source: Path | str, model: TPruneForConditionalGeneration, tokenizer: Any) -> None:
    """Refuse a model of many languages that begins with none of them."""
    known, config = codes(tokenizer), model.config
    if known and not {config.decoder_start_token_id, config.forced_bos_token_id} & set(known.values()):
        raise InputError(
            "the model translates between many languages, and begins with none of them by itself",
            where=source,
            wanted="a source and a target language, such as " + ", ".join(sorted(known)[:SHOWN]) + " ...",
            fix='name them with --languages SOURCE TARGET, in a recipe with languages = ["SOURCE", "TARGET"]',
        )


def _translate_to(language: int, model: TPruneForConditionalGeneration, tokenizer: Any) -> None:
    """Begin every translation with this language token, in the way the model was trained for."""
    # mBART's first edition starts from the language; mBART-50, M2M100 and NLLB force it behind the start
    key = "decoder_start_token_id" if type(tokenizer).__name__.startswith("MBartTok") else "forced_bos_token_id"
    setattr(model.config, key, language)
    setattr(model.generation_config, key, language)


def _layer_weights(model: PreTrainedModel) -> Iterator[tuple[str, Tensor]]:
    for name, tensor in model.model.state_dict().items():
        if not re.search(r"embed_tokens|embed_positions|shared", name):
            for old, new in RENAMES:
                name = name.replace(old, new)  # noqa: PLW2901
            yield name, tensor


def _position_table(stack: Any, config: TPruneConfig) -> Tensor:
    """(max_positions + offset, D) of an encoder or a decoder."""
    table = stack.embed_positions
    if hasattr(table, "weight"):
        return table.weight  # type: ignore[no-any-return]
    # M2M100 keeps no parameter, and makes a longer table whenever it needs one
    length = config.max_positions + config.position_offset
    return table.get_embedding(length, config.d_model, table.padding_idx)  # type: ignore[no-any-return]


# Hugging Face's parts of a parameter's name, and ours; the longer ones first.
RENAMES = (
    ("self_attn_layer_norm", "self_attn.norm"),
    ("encoder_attn_layer_norm", "cross_attn.norm"),
    ("final_layer_norm", "ffn.norm"),
    ("layernorm_embedding", "embedding_norm"),
    ("layer_norm", "final_norm"),
    ("encoder_attn", "cross_attn"),
    ("out_proj", "o_proj"),
    (".fc1", ".ffn.fc1"),
    (".fc2", ".ffn.fc2"),
)
ACTIVATION_NAMES = {"swish": "silu", "gelu_pytorch_tanh": "gelu_new"}
FAMILIES = {
    "bart": Family(norm="post", final_norm=False, embedding_norm=True, positions="learned", offset=2),
    "m2m_100": Family(norm="pre", final_norm=True, embedding_norm=False, positions="sinusoidal", offset=None),
    "marian": Family(norm="post", final_norm=False, embedding_norm=False, positions="sinusoidal", offset=0),
    "mbart": Family(norm="pre", final_norm=True, embedding_norm=True, positions="learned", offset=2),
}
