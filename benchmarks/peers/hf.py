"""Hugging Face's own `generate` on our model, PyTorch eager: what a user of the checkpoint has without an engine.

Shapes: B sentences, S source length.
"""

from collections.abc import Sequence
from importlib.metadata import version
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tprune.benchmarks.peers.peer import Peer, Translate
from tprune.model import checkpoint
from tprune.model.engine import Ids
from tprune.model.search import Search
from tprune.model.transformer import TPruneForConditionalGeneration


def generate(model: TPruneForConditionalGeneration, source: Ids, mask: Ids, search: Search) -> list[list[int]]:
    """Translate a batch with cached keys and values.

    `generate` knows one greatest length for a batch: it is that of the longest sentence.

    Args:
        model: On the CPU.
        source: (B, S) ids, padded on the right.
        mask: (B, S), 1 = token, 0 = padding.
        search: Greedy or beam search, as in `tprune.model.decode`; its banned tokens are suppressed.

    Returns:
        B lists of target ids, without the start token and eos.
    """
    width: dict[str, Any] = {"num_beams": search.beams}
    if search.beams > 1:  # refused for a greedy search
        width |= {"early_stopping": False, "length_penalty": search.length_penalty}
    rows = model.eval().generate(
        torch.from_numpy(source),
        attention_mask=torch.from_numpy(mask),
        do_sample=False,
        use_cache=True,
        max_new_tokens=search.max_length(source.shape[1]),
        suppress_tokens=list(search.banned),
        forced_bos_token_id=search.forced_bos,
        forced_eos_token_id=search.forced_eos,
        **width,
    )
    # a hypothesis that ended early is filled up behind its eos, one that reached the limit has none
    return [list(takewhile(lambda token: token != search.eos, row)) for row in rows[:, 1:].tolist()]


def save(model: TPruneForConditionalGeneration, out: Path, _precision: str) -> None:
    """Write the model as an ordinary checkpoint."""
    checkpoint.save(model, out)


def _open(folder: Path, threads: int, _precision: str, search: Search) -> Translate:
    torch.set_num_threads(threads)
    model = checkpoint.load(folder)

    def translate_one(source: Sequence[int]) -> list[int]:
        ids = np.asarray([source], dtype=np.int64)
        return generate(model, ids, np.ones_like(ids), search)[0]

    return translate_one


PEER = Peer(
    name="hf-generate",
    precisions=("fp32",),
    version=lambda: version("transformers"),
    weights="model.safetensors",
    convert=save,
    open=_open,
    missing=lambda: None,
)
