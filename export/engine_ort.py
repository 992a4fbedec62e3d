"""Bundles on ONNX Runtime, as an engine for the searches of `tprune.model.decode`.

Shapes: B sentences (or sentences x beams), S source length, P cached target length, N vocabulary, C candidates.
"""

from dataclasses import dataclass, field, replace
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np

from tprune.export import shortlist, tensors
from tprune.export.description import Bundle
from tprune.export.refusals import not_installed, unreadable
from tprune.model.decode import greedy_by_steps, length_limits
from tprune.model.engine import Ids, Logits
from tprune.model.search import Search


@dataclass(frozen=True)
class OnnxState:
    """What OnnxRuntimeEngine knows of a batch; all tensors are the engine's own (`OrtValue`).

    Attributes:
        source: What comes from the source, by input name of `decode_step`.
        past: The self-attention caches by input name of `decode_step`.
        sentences: (B,) source row of each row; beams of one sentence share what comes from the source.
        candidates: (C,) target tokens that the steps choose from; None: all.
        output: The output projection's parts for the candidates, by input name; the same for all rows.
        length: Target tokens so far.
    """

    source: dict[str, Any]
    past: dict[str, Any]
    sentences: Ids
    candidates: Ids | None = None
    output: dict[str, Any] = field(default_factory=dict)
    length: int = 0


class OnnxRuntimeEngine:
    """A bundle on ONNX Runtime's CPU provider, for batches of padded sentences.

    Args:
        bundle: A bundle for this engine.
        threads: Threads of one operator.
        profile: Existing directory for a profile of each graph, see `profiles`; everything gets several times slower.

    Raises:
        MachineError: ONNX Runtime is not installed.
        ArtifactError: It does not accept the graphs, or the shortlist cannot be read.
    """

    def __init__(self, bundle: Bundle, threads: int, profile: Path | None = None) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise not_installed("onnxruntime") from error
        self.bundle, self.threads, self._profile, self._runtime = bundle, threads, profile, onnxruntime
        self._sessions: dict[str, Any] = {}
        self._shortlist = None if bundle.shortlist is None else shortlist.load(bundle.path / bundle.shortlist)

    def greedy(self, source: Ids, mask: Ids, search: Search) -> list[list[int]]:
        """The whole search in one graph: see `tprune.model.decode.greedy`.

        Raises:
            InputError: An over-long sentence or a token id out of range.
        """
        limits = length_limits(mask, search)
        if self._fixed(search) != self._fixed(Search(**self.bundle.search)) or limits.max() > self.bundle.max_target:
            # other tokens are banned or forced than in the graph, or the translation may get longer than it can
            return greedy_by_steps(self, source, mask, search)
        self.bundle.check_source(source)
        inputs = {"source": source, "source_mask": mask, "limits": limits}
        if self._shortlist is not None:
            inputs[tensors.CANDIDATES] = self._shortlist.candidates(source[mask == 1])
        (rows,) = self._session(tensors.TRANSLATE).run(None, inputs)
        return [
            list(takewhile(lambda token: token != search.eos, row[:limit].tolist()))
            for row, limit in zip(rows, limits, strict=True)
        ]

    def encode(self, source: Ids, mask: Ids) -> OnnxState:
        """Run the encoder and the cross-attentions' projections: see `Engine.encode`.

        Raises:
            InputError: An over-long sentence or a token id out of range.
        """
        self.bundle.check_source(source)
        size, step = len(source), self.bundle.graphs[tensors.DECODE_STEP]
        inputs = {"source": self._value(source), "source_mask": self._value(mask)}
        candidates = None
        if self._shortlist is not None:
            candidates = self._shortlist.candidates(source[mask == 1])
            inputs[tensors.CANDIDATES] = self._value(candidates)
        names = self.bundle.graphs[tensors.ENCODE].outputs
        made = dict(zip(names, self._session(tensors.ENCODE).run_with_ort_values(names, inputs), strict=True))
        cross = {name: made[name] for name in tensors.cross_names(self.bundle.decoder_shapes)}
        empty = tensors.cache_shapes(self.bundle.decoder_shapes, "self_attn", size, 0)
        past = [name for name in step.inputs if name.startswith("past_")]
        return OnnxState(
            {"source_mask": inputs["source_mask"], **cross},
            {name: self._value(np.zeros(shape, np.float32)) for name, shape in zip(past, empty, strict=True)},
            np.arange(size),
            candidates,
            {name: made[name] for name in names if name not in cross},
        )

    def step(self, tokens: Ids, state: OnnxState) -> tuple[Logits, OnnxState]:
        """Run the decoder on one token a row: see `Engine.step`.

        Raises:
            InputError: A token id out of range, or more steps than the bundle allows.
        """
        self.bundle.check_step(tokens, state.length)
        inputs = {"tokens": self._value(tokens), "position": self._value(np.array([state.length]))}
        names = self.bundle.graphs[tensors.DECODE_STEP].outputs
        values, *caches = self._session(tensors.DECODE_STEP).run_with_ort_values(
            names, inputs | state.source | state.output | state.past
        )
        past, logits = dict(zip(state.past, caches, strict=True)), values.numpy()
        if state.candidates is not None:
            logits = shortlist.spread(logits, state.candidates, self.bundle.target_vocabulary)
        return logits, replace(state, past=past, length=state.length + 1)

    def reorder(self, state: OnnxState, rows: Ids) -> OnnxState:
        """Select rows of all keys and values: see `Engine.reorder`."""
        past, sentences = self._select(state.past, rows), state.sentences[rows]
        if np.array_equal(sentences, state.sentences):  # beams changed places within their sentence
            return replace(state, past=past)
        return replace(state, past=past, source=self._select(state.source, rows), sentences=sentences)

    def profiles(self) -> dict[str, Path]:
        """End the profiles of an engine made with `profile`: the files by graph, for those that were run."""
        return {name: Path(session.end_profiling()) for name, session in self._sessions.items()}

    def _select(self, values: dict[str, Any], rows: Ids) -> dict[str, Any]:
        return {name: self._value(value.numpy()[rows]) for name, value in values.items()}

    def _value(self, array: np.ndarray[Any, Any]) -> Any:
        return self._runtime.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(array))

    @staticmethod
    def _fixed(search: Search) -> Search:
        """What the one graph has built in of a search: the tokens, where lengths are an input."""
        return replace(
            search,
            limit=0,
            source_limit=None,
            max_new_tokens=None,
            length_factor=0.0,
            length_extra=0,
            beams=1,
            length_penalty=1.0,
        )

    def _session(self, name: str) -> Any:
        """One graph's session, made when the graph is first run."""
        if name not in self._sessions:
            self._sessions[name] = self._load(name)
        return self._sessions[name]

    def _load(self, name: str) -> Any:
        options = self._runtime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = self.threads, 1
        options.log_severity_level = 3  # errors
        # Threads that spin are quick within a run, and between runs only disturb those of other sessions.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        # Lengths differ at every step: planning memory by pattern would keep a plan for each.
        options.enable_mem_pattern = False
        if self._profile is not None:
            options.enable_profiling, options.profile_file_prefix = True, str(self._profile / name)
        path = self.bundle.path / self.bundle.graphs[name].file
        try:
            return self._runtime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # its exceptions share no base class
            raise unreadable(path, error) from None
