"""Small random models with everything pruning leaves behind, and their bundles, made once a session."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tprune import artifact
from tprune.delivery_config import Export
from tprune.export.bundle import export
from tprune.model import checkpoint
from tprune.model.engine import Ids
from tprune.model.shape import TPruneConfig
from tprune.model.transformer import TPruneForConditionalGeneration
from tprune.text import vocab

SETTINGS = Export(max_source=12, max_target=99, parity_sentences=3)
POSITIONS = 14  # fewer than max_target
ENGINES = ("onnxruntime", "executorch")
SENTENCES = [f"{one} sees {two}." for one in ("A dog", "A cat", "The bird") for two in ("it", "a cat", "the red fox")]
LONGEST = 33  # tokens of a source for the bundles of `made`


def attention(heads: int, qk: int, v: int) -> dict[str, Any]:
    return {"heads": heads, "qk": qk, "v": v, "scale": 0.4}


GONE = attention(0, 0, 0)
ENCODER = [
    {"self_attn": GONE, "ffn": 9},
    {"self_attn": attention(2, 4, 3), "ffn": 0},
]
DECODER = [
    {"self_attn": GONE, "cross_attn": attention(3, 5, 7), "ffn": 11},
    {"self_attn": attention(1, 6, 2), "cross_attn": GONE, "ffn": 0},
]
MODELS: Mapping[str, dict[str, Any]] = {
    "pre": {
        "norm": "pre",
        "encoder_shapes": ENCODER,
        "decoder_shapes": DECODER,
        "target_vocab_size": 30,
        "positions": "learned",
        "position_offset": 2,
        "output_bias": True,
        "activation": "gelu",
        "embedding_norm": True,
    },
    "post": {
        "norm": "post",
        "final_norm": False,
        "encoder_shapes": [{"self_attn": attention(3, 5, 7), "ffn": 13}],
        "decoder_shapes": [{"self_attn": attention(3, 7, 5), "cross_attn": attention(2, 3, 4), "ffn": 17}],
        "embedding_scale": 4.0,
    },
    "trimmed": {
        "norm": "pre",
        "encoder_shapes": [{"self_attn": attention(2, 4, 3), "ffn": 9}],
        "decoder_shapes": [{"self_attn": attention(1, 6, 6), "cross_attn": attention(2, 3, 4), "ffn": 11}],
        "output_vocab_size": 30,
        "output_bias": True,
    },
}
CASES = tuple((model, engine) for model in MODELS for engine in ENGINES)


def build(name: str) -> TPruneForConditionalGeneration:
    """A model whose every parameter is random, biases and norms too."""
    with torch.random.fork_rng():
        torch.manual_seed(len(name))
        model = TPruneForConditionalGeneration(
            TPruneConfig(vocab_size=40, d_model=24, max_positions=POSITIONS, **MODELS[name])
        )
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
    model.eval()
    return model


def batch(lengths: list[int]) -> tuple[Ids, Ids]:
    """Random source ids and mask for sentences of these lengths."""
    source = np.random.randint(2, 40, (len(lengths), max(lengths)))
    mask = (np.arange(max(lengths)) < np.array(lengths)[:, None]).astype(np.int64)
    return source, mask


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """Model artifacts by name."""
    root = tmp_path_factory.mktemp("models")
    for name in MODELS:
        with artifact.create(root / name, "model", config={}) as partial:
            checkpoint.save(build(name), partial)
            (partial / "tokenizer.json").write_text("{}")
            (partial / "source.spm").write_text("pieces")
            (partial / "training.log").write_text("not for the phone")
    return {name: root / name for name in MODELS}


class Bundles:
    """Exports each bundle when the first test asks for it."""

    def __init__(self, root: Path, models: Mapping[str, Path]) -> None:
        self.root, self.models = root, models

    def __call__(self, model: str, engine: str) -> Path:
        out = self.root / f"{model}-{engine}"
        if not out.exists():
            export(self.models[model], out, engine, SETTINGS, languages=("en", "de"))
        return out


@pytest.fixture(scope="session")
def bundles(tmp_path_factory: pytest.TempPathFactory, models: Mapping[str, Path]) -> Bundles:
    return Bundles(tmp_path_factory.mktemp("bundles"), models)


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """A random model with a tokenizer of its own, as a bundle for each engine."""
    root = tmp_path_factory.mktemp("translation")
    tokenizer = vocab.train(SENTENCES, kind="unigram", vocabulary=320)
    config = TPruneConfig(
        vocab_size=tokenizer.vocabulary_size,
        d_model=16,
        max_positions=40,
        embedding_scale=4.0,
        tie_output=False,
        encoder_shapes=[{"self_attn": attention(2, 4, 4), "ffn": 8}],
        decoder_shapes=[{"self_attn": attention(2, 4, 4), "cross_attn": attention(2, 4, 4), "ffn": 8}],
        pad_token_id=tokenizer.pad_id,
        eos_token_id=tokenizer.eos_id,
        decoder_start_token_id=tokenizer.decoder_start_id,
    )
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(7)
        model = TPruneForConditionalGeneration(config)
        for parameter in model.parameters():  # so that translations differ
            parameter.add_(torch.randn_like(parameter))
        assert model.lm_head is not None
        model.lm_head.weight.mul_(0.1)  # the same translations from logits of a usual size
    model.generation_config.suppress_tokens = list(range(2, len(vocab.FIXED)))  # single bytes, which spell no text
    with artifact.create(root / "model", "model", config={}) as partial:
        checkpoint.save(model, partial)
        tokenizer.save(partial)
    settings = Export(max_source=LONGEST, max_target=40, parity_sentences=1)
    for engine in ENGINES:
        export(root / "model", root / engine, engine, settings)
    return {engine: root / engine for engine in ENGINES}
