"""Random models of the sizes at which engines are compared: no training, no corpus, the same weights every time."""

from collections.abc import Mapping
from pathlib import Path

import torch

from tprune import artifact
from tprune.artifact import Artifact
from tprune.errors import InputError
from tprune.model import checkpoint
from tprune.model.shape import dense_config
from tprune.model.transformer import TPruneForConditionalGeneration

SIZES: Mapping[str, Mapping[str, int]] = {
    "base": {
        "d_model": 512,
        "heads": 8,
        "ffn": 2048,
        "encoder_layers": 6,
        "decoder_layers": 6,
        "vocab_size": 32000,
    },
    "tiny": {
        "d_model": 256,
        "heads": 4,
        "ffn": 1024,
        "encoder_layers": 3,
        "decoder_layers": 3,
        "vocab_size": 8000,
    },
}


def random_model(size: str, out: Path) -> Artifact:
    """Write a model of one of SIZES.

    Raises:
        InputError: No such size.
    """
    if size not in SIZES:
        raise InputError("no such size", got=size, wanted=" or ".join(SIZES), fix="give one of these")
    torch.manual_seed(0)
    with artifact.create(out, "model", config=dict(SIZES[size])) as partial:
        checkpoint.save(TPruneForConditionalGeneration(dense_config(**SIZES[size])), partial)
    return artifact.read(out, "model")
