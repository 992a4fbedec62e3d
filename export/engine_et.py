"""Bundles on ExecuTorch, as an engine for the searches of `tprune.model.decode`.

Shapes: B sentences (or sentences x beams), S source length, P cached target length, N vocabulary.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from tprune.errors import InputError
from tprune.export import extension, shortlist, tensors
from tprune.export.description import Bundle
from tprune.export.refusals import not_installed, unreadable
from tprune.export.silence import silence
from tprune.model.decode import greedy_by_steps
from tprune.model.engine import Engine, Ids, Logits
from tprune.model.search import Search


@dataclass(frozen=True)
class Row:
    """What ExecuTorchEngine knows of one sentence: torch tensors, in the order of the graphs' names."""

    known: list[Any]
    """What `encode` gave: it goes to every step."""
    past: list[Any]
    length: int = 0
    candidates: Ids | None = None
    """Target ids that the logits are of, with a shortlist."""


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
        ArtifactError: It does not accept the program, or the shortlist cannot be read.
    """

    _pool = 0  # how often the process-wide pool was resized

    def __init__(self, bundle: Bundle, threads: int) -> None:
        try:
            with silence():
                from executorch.extension.pybindings import portable_lib
        except ImportError as error:
            raise not_installed("executorch") from error
        self.bundle, self.threads, self._runtime = bundle, threads, portable_lib
        self._methods: dict[str, Any] = {}
        self._shortlist = None if bundle.shortlist is None else shortlist.load(bundle.path / bundle.shortlist)
        self._reload()

    def encode(self, source: Ids, mask: Ids) -> list[Row]:
        """Run the encoder and the cross-attentions' projections: see `Engine.encode`.

        Raises:
            InputError: An over-long or empty sentence, or a token id out of range.
        """
        import torch

        self.bundle.check_source(source)
        shapes = tensors.equal_shapes(self.bundle.decoder_shapes)
        empty = [torch.zeros(shape) for shape in tensors.cache_shapes(shapes, "self_attn", 1, 0)]
        rows = []
        for index, (ids, attend) in enumerate(zip(source, mask, strict=True)):
            tokens = torch.from_numpy(ids[attend == 1])[None]  # padding is cut off
            if not tokens.numel():
                raise InputError("sentence without tokens", where=f"row {index}", fix="drop it before translating")
            given, candidates = [tokens], None
            if self._shortlist is not None:
                candidates = self._shortlist.candidates(tokens.numpy())
                given.append(torch.from_numpy(candidates))
            rows.append(Row(self._run(tensors.ENCODE, given), empty, candidates=candidates))
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
            inputs = [torch.tensor([int(token)]), torch.tensor([row.length]), *row.past, *row.known]
            logits, *past = self._run(tensors.DECODE_STEP, inputs)
            found.append(self._spread(logits, row))
            after.append(replace(row, past=past, length=row.length + 1))
        return np.concatenate(found), after

    def reorder(self, state: list[Row], rows: Ids) -> list[Row]:
        """Select rows; nothing is copied, since no step changes a state: see `Engine.reorder`."""
        return [state[index] for index in rows]

    def greedy(self, source: Ids, mask: Ids, search: Search) -> list[list[int]]:
        """The search over `buffered_step`, sentence by sentence: see `tprune.model.decode.greedy`.

        Raises:
            InputError: An over-long or empty sentence, or a token id out of range.
        """
        rows = zip(source, mask, strict=True)
        return [greedy_by_steps(self.buffered, ids[None], attend[None], search)[0] for ids, attend in rows]

    @cached_property
    def buffered(self) -> Engine:
        """The engine over `buffered_step`, one sentence at a time; itself where the runtime lacks the operators."""
        try:
            extension.register()
        except ImportError:
            return self
        return _Buffered(self)

    def _spread(self, logits: Any, row: Row) -> Logits:
        """Logits (1, N) of all tokens from those that the graph gave."""
        if row.candidates is None:
            return logits.numpy()  # type: ignore[no-any-return]
        return shortlist.spread(logits.numpy(), row.candidates, self.bundle.target_vocabulary)

    def _run(self, method: str, inputs: list[Any], clone: bool = True) -> list[Any]:
        # Inputs are handed over at every call and outputs cloned: the planned memory is overwritten by each run.
        if self._loaded_pool != ExecuTorchEngine._pool:
            self._reload()
        if method not in self._methods:
            with silence():
                self._methods[method] = self._program.load_method(method)
        outputs: list[Any] = self._methods[method].call(inputs, clone_outputs=clone)
        return outputs

    def _reload(self) -> None:
        """Load the program for the number of threads; its methods when they are first called."""
        path = self.bundle.path / self.bundle.graphs[tensors.ENCODE].file
        with silence():
            if self._runtime._threadpool_get_thread_count() != self.threads:
                self._runtime._unsafe_reset_threadpool(self.threads)
                ExecuTorchEngine._pool += 1
            try:
                self._program, self._methods = self._runtime._load_program(str(path)), {}
                self._methods[tensors.ENCODE] = self._program.load_method(tensors.ENCODE)
            except RuntimeError as error:
                raise unreadable(path, error) from None
        self._loaded_pool = ExecuTorchEngine._pool


class _Buffered:
    """The engine with its self-attention caches inside the program: one sentence, and no way back."""

    def __init__(self, engine: ExecuTorchEngine) -> None:
        self.engine = engine

    def encode(self, source: Ids, mask: Ids) -> Row:
        (row,) = self.engine.encode(source, mask)
        return row

    def step(self, tokens: Ids, state: Row) -> tuple[Logits, Row]:
        import torch

        self.engine.bundle.check_step(tokens, state.length)
        inputs = [torch.from_numpy(tokens), torch.tensor([state.length]), *state.known]
        (logits,) = self.engine._run(tensors.BUFFERED_STEP, inputs, clone=False)  # read before the next call
        return self.engine._spread(logits, state), replace(state, length=state.length + 1)

    def reorder(self, state: Row, rows: Ids) -> Row:
        assert not len(rows) - 1, "one sentence"
        return state
