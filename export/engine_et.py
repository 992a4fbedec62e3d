"""Bundles on ExecuTorch, as an engine for the searches of `tprune.model.decode`.

Shapes: B sentences (or sentences x beams), S source length, P cached target length, N vocabulary.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from tprune.errors import InputError
from tprune.export import graphs
from tprune.export.description import Bundle
from tprune.export.refusals import not_installed, unreadable
from tprune.export.silence import silence
from tprune.model.engine import Ids, Logits


@dataclass(frozen=True)
class Row:
    """What ExecuTorchEngine knows of one sentence: torch tensors, in the order of the graphs' names."""

    cross: list[Any]
    past: list[Any]
    length: int = 0


class ExecuTorchEngine:
    """A bundle on ExecuTorch with XNNPACK; a batch is run sentence by sentence.

    ExecuTorch has one thread pool in a process, and a loaded program keeps a pointer to it: an
    engine that finds the pool resized by another loads its program again. Engines with different
    numbers of threads are thus safe side by side, but slow when used in turn.

    Args:
        bundle: A bundle for this engine.
        threads: Threads of one operator.

    Raises:
        MachineError: ExecuTorch is not installed.
        ArtifactError: It does not accept the program.
    """

    _pool = 0  # how often the process-wide pool was resized

    def __init__(self, bundle: Bundle, threads: int) -> None:
        try:
            with silence():
                from executorch.extension.pybindings import portable_lib
        except ImportError as error:
            raise not_installed("executorch") from error
        self.bundle, self.threads, self._runtime = bundle, threads, portable_lib
        self._methods, self._loaded_pool = self._load()

    def encode(self, source: Ids, mask: Ids) -> list[Row]:
        """Run the encoder and the cross-attentions' projections: see `Engine.encode`.

        Raises:
            InputError: An over-long or empty sentence, or a token id out of range.
        """
        import torch

        self.bundle.check_source(source)
        empty = [torch.zeros(shape) for shape in graphs.cache_shapes(self.bundle.decoder_shapes, "self_attn", 1, 0)]
        rows = []
        for index, (ids, attend) in enumerate(zip(source, mask, strict=True)):
            tokens = torch.from_numpy(ids[attend == 1])[None]  # padding is cut off
            if not tokens.numel():
                raise InputError("sentence without tokens", where=f"row {index}", fix="drop it before translating")
            rows.append(Row(self._run(graphs.ENCODE, [tokens]), empty))
        return rows

    def step(self, tokens: Ids, state: list[Row]) -> tuple[Logits, list[Row]]:
        """Run the decoder on one token a row: see `Engine.step`.

        Raises:
            InputError: A token id out of range, or more steps than the bundle allows.
        """
        import torch

        self.bundle.check_step(tokens, max((row.length for row in state), default=0))
        found, after = [], []
        for token, row in zip(tokens, state, strict=True):
            inputs = [torch.tensor([int(token)]), torch.tensor([row.length]), *row.past, *row.cross]
            logits, *past = self._run(graphs.DECODE_STEP, inputs)
            found.append(logits.numpy())
            after.append(Row(row.cross, past, row.length + 1))
        return np.concatenate(found), after

    def reorder(self, state: list[Row], rows: Ids) -> list[Row]:
        """Select rows; nothing is copied, since no step changes a state: see `Engine.reorder`."""
        return [state[index] for index in rows]

    def _run(self, method: str, inputs: list[Any]) -> list[Any]:
        # Inputs are handed over at every call and outputs cloned: the planned memory is overwritten by each run.
        if self._loaded_pool != ExecuTorchEngine._pool:
            self._methods, self._loaded_pool = self._load()
        outputs: list[Any] = self._methods[method].call(inputs, clone_outputs=True)
        return outputs

    def _load(self) -> tuple[dict[str, Any], int]:
        path = self.bundle.path / self.bundle.graphs[graphs.ENCODE].file
        with silence():
            if self._runtime._threadpool_get_thread_count() != self.threads:
                self._runtime._unsafe_reset_threadpool(self.threads)
                ExecuTorchEngine._pool += 1
            try:
                program = self._runtime._load_program(str(path))
                return {name: program.load_method(name) for name in self.bundle.graphs}, ExecuTorchEngine._pool
            except RuntimeError as error:
                raise unreadable(path, error) from None
