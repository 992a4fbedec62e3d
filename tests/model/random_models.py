"""Small models with random shapes and weights: ours, and Hugging Face's of every family."""

import itertools
import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    M2M100Config,
    M2M100ForConditionalGeneration,
    MarianConfig,
    MarianMTModel,
    MBartConfig,
    MBartForConditionalGeneration,
    PreTrainedModel,
)

from tprune.model.engine import Ids
from tprune.model.shape import TPruneConfig
from tprune.model.transformer import TPruneForConditionalGeneration

FAMILIES: dict[str, tuple[Any, Any]] = {
    "marian": (MarianConfig, MarianMTModel),
    "bart": (BartConfig, BartForConditionalGeneration),
    "mbart": (MBartConfig, MBartForConditionalGeneration),
    "m2m_100": (M2M100Config, M2M100ForConditionalGeneration),
}
PAD, EOS, VOCABULARY = 1, 2, 31


def shake(model: PreTrainedModel) -> PreTrainedModel:
    """Make the logits differ clearly, norms and biases included."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "positions" not in name:
                parameter.add_(torch.randn_like(parameter) * 0.3)
        for name, buffer in model.named_buffers():
            if name == "final_logits_bias":
                buffer.add_(torch.randn_like(buffer))
    model.generation_config.bad_words_ids = [[PAD]]  # M2M100 gives a padding token another position
    return model.eval()


def balance(model: TPruneForConditionalGeneration) -> TPruneForConditionalGeneration:
    """Make eos the best token of every eighth state and every other token a frequent one."""
    assert model.output_bias is not None
    source = torch.randint(EOS + 1, VOCABULARY, (40, 8))
    with torch.no_grad():
        logits = model(source, decoder_input_ids=torch.randint(EOS + 1, VOCABULARY, (40, 8))).logits.flatten(0, 1)
        model.output_bias.sub_(logits.mean(dim=0))
        logits -= logits.mean(dim=0)
        model.output_bias[EOS] += (logits.max(dim=1).values - logits[:, EOS]).quantile(1 / 8)
    return model


def ours(seed: int, **fixed: Any) -> TPruneForConditionalGeneration:
    """A model of random per-layer shapes, with sub-layers gone."""
    draw = random.Random(seed)

    def attention() -> dict[str, Any]:
        heads, qk, v = draw.choice([0, 1, 2, 3]), draw.choice([3, 4, 8]), draw.choice([2, 5, 8])
        return {"heads": heads, "qk": qk, "v": v, "scale": draw.uniform(0.2, 0.5)}

    def ffn() -> int:
        return draw.choice([0, 9, 17])

    settings: dict[str, Any] = {
        "encoder_shapes": [{"self_attn": attention(), "ffn": ffn()} for _ in range(draw.randint(1, 3))],
        "decoder_shapes": [
            {"self_attn": attention(), "cross_attn": attention(), "ffn": ffn()} for _ in range(draw.randint(1, 3))
        ],
        "norm": draw.choice(["pre", "post"]),
        "final_norm": draw.random() < 0.5,
        "embedding_norm": draw.random() < 0.5,
        "positions": draw.choice(["sinusoidal", "learned"]),
        "tie_output": draw.random() < 0.5,
        "target_vocab_size": draw.choice([None, VOCABULARY]),
    }
    config = TPruneConfig(
        vocab_size=VOCABULARY, d_model=16, max_positions=40, output_bias=True, pad_token_id=PAD, eos_token_id=EOS,
        decoder_start_token_id=EOS, **(settings | fixed),
    )  # fmt: skip
    return balance(shake(TPruneForConditionalGeneration(config)))


def theirs(family: str, seed: int, **fixed: Any) -> PreTrainedModel:
    """A Hugging Face model with encoder and decoder of different depths, heads and widths."""
    draw = random.Random(seed)
    config_class, model_class = FAMILIES[family]
    settings: dict[str, Any] = {
        "vocab_size": VOCABULARY,
        "d_model": draw.choice([16, 24]),
        "encoder_layers": draw.randint(1, 3),
        "decoder_layers": draw.randint(1, 3),
        "encoder_attention_heads": draw.choice([2, 4]),
        "decoder_attention_heads": draw.choice([1, 2, 8]),
        "encoder_ffn_dim": draw.choice([10, 20]),
        "decoder_ffn_dim": draw.choice([12, 28]),
        "activation_function": draw.choice(["relu", "gelu", "gelu_new", "silu", "swish"]),
        "scale_embedding": draw.random() < 0.5,
        "tie_word_embeddings": draw.random() < 0.7,
        "max_position_embeddings": draw.choice([32, 50]),
        "pad_token_id": PAD,
        "eos_token_id": EOS,
        "bos_token_id": 0,
        "decoder_start_token_id": EOS,
    }
    if family == "marian" and draw.random() < 0.5:
        settings |= {"share_encoder_decoder_embeddings": False, "decoder_vocab_size": VOCABULARY + 6}
    model = shake(model_class(config_class(**(settings | fixed))))
    model.generation_config.forced_bos_token_id = draw.choice([None, 7])
    model.generation_config.forced_eos_token_id = draw.choice([None, EOS])
    return model


def sentences(count: int, longest: int = 12) -> list[list[int]]:
    """Random source ids, each with eos behind it."""
    return [
        [*(random.randrange(EOS + 1, VOCABULARY) for _ in range(random.randint(1, longest))), EOS] for _ in range(count)
    ]


def padded(ids: Sequence[Sequence[int]]) -> tuple[Ids, Ids]:
    """Right-padded (B, S) ids and mask."""
    source = np.full((len(ids), max(map(len, ids))), PAD)
    for row, sentence in zip(source, ids, strict=True):
        row[: len(sentence)] = sentence
    return source, (source != PAD).astype(np.int64)


def generated(model: PreTrainedModel, ids: Sequence[Sequence[int]], **settings: Any) -> list[list[int]]:
    """What `generate` finds, between the start token and eos."""
    source, mask = padded(ids)
    if settings.get("num_beams", 1) > 1:
        settings = {"early_stopping": False, "length_penalty": 1.0} | settings
    rows = model.generate(torch.from_numpy(source), attention_mask=torch.from_numpy(mask), do_sample=False, **settings)
    endless = (itertools.takewhile(lambda token: token != EOS, row) for row in rows[:, 1:].tolist())
    return [[token for token in row if token != PAD] for row in endless]
