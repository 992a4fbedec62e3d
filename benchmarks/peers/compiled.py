"""PyTorch with `torch.compile`: the decoding step as C++ that the compiler made, in our greedy search."""

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tprune.benchmarks.peers import hf
from tprune.benchmarks.peers.peer import Peer, Translate
from tprune.export.silence import silence
from tprune.model import checkpoint
from tprune.model.decode import one_by_one
from tprune.model.engine import Ids, Logits
from tprune.model.layers import KeysValues
from tprune.model.search import Search
from tprune.model.torch_engine import State, TorchEngine
from tprune.model.transformer import TPruneForConditionalGeneration

COMPILERS = ("g++", "clang++", "c++")


class CompiledEngine(TorchEngine):
    """TorchEngine whose step is compiled once for all lengths; the first sentences wait for the compiler."""

    def __init__(self, model: TPruneForConditionalGeneration) -> None:
        super().__init__(model)
        with silence():  # the compiler's own modules are deprecated as soon as they are imported
            self._compiled: Any = torch.compile(self._next, dynamic=True)

    @torch.inference_mode()
    def step(self, tokens: Ids, state: State) -> tuple[Logits, State]:
        """Run the decoder on one token a row: see `Engine.step`."""
        if state.length < 2:  # sizes of 0 and 1 would be compiled in, once for each
            return super().step(tokens, state)
        # the position is a tensor, since a number would be compiled in too
        logits, own = self._compiled(
            torch.from_numpy(tokens), torch.tensor([state.length]), state.cross, state.mask, state.own
        )
        return logits.numpy(), replace(state, own=own, length=state.length + 1)

    def _next(
        self,
        tokens: Tensor,
        position: Tensor,
        cross: Sequence[KeysValues | None],
        mask: Tensor,
        past: Mapping[int, KeysValues],
    ) -> tuple[Tensor, dict[int, KeysValues]]:
        own: dict[int, KeysValues] = {}

        def grow(layer: int, keys: Tensor, values: Tensor) -> KeysValues:
            old_keys, old_values = past[layer]
            own[layer] = torch.cat((old_keys, keys), 2), torch.cat((old_values, values), 2)
            return own[layer]

        states = self.model.decode(tokens, cross, mask, start=position, grow=grow)
        return self.model.logits(states), own


def _open(folder: Path, threads: int, _precision: str, search: Search) -> Translate:
    torch.set_num_threads(threads)
    return one_by_one(CompiledEngine(checkpoint.load(folder)), search)


def _missing() -> str | None:
    named = (os.environ.get("CXX"), *COMPILERS)
    return None if any(name and shutil.which(name) for name in named) else f"a C++ compiler: {', '.join(COMPILERS)}"


PEER = Peer(
    name="torch-compile",
    precisions=("fp32",),
    version=lambda: version("torch"),
    weights="model.safetensors",
    convert=hf.save,
    open=_open,
    missing=_missing,
)
