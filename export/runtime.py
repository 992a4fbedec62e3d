"""Bundles as engines for the searches of `tprune.model.decode`.

Shapes: B sentences (or sentences x beams), S source length, P cached target length, N vocabulary.
"""

import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from tprune import artifact
from tprune.errors import ArtifactError, InputError, MachineError
from tprune.export import graphs
from tprune.export.description import Bundle, read
from tprune.export.silence import silence
from tprune.model.engine import Engine, Ids, Logits


@dataclass(frozen=True)
class OnnxState:
    """What OnnxRuntimeEngine knows of a batch; all tensors are the engine's own (`OrtValue`).

    Attributes:
        source: What comes from the source, by input name of `decode_step`.
        past: The self-attention caches by input name of `decode_step`.
        sentences: (B,) source row of each row; beams of one sentence share what comes from the source.
        length: Target tokens so far.
    """

    source: dict[str, Any]
    past: dict[str, Any]
    sentences: Ids
    length: int = 0


class OnnxRuntimeEngine:
    """A bundle on ONNX Runtime's CPU provider, for batches of padded sentences.

    Args:
        bundle: A bundle for this engine.
        threads: Threads of one operator.

    Raises:
        MachineError: ONNX Runtime is not installed.
        ArtifactError: It does not accept the graphs.
    """

    def __init__(self, bundle: Bundle, threads: int) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise _not_installed("onnxruntime") from error
        self.bundle, self._runtime = bundle, onnxruntime
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.log_severity_level = 3  # errors
        # The two sessions run in turn: threads that spin between calls only disturb the other one's.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        # Lengths differ at every step: planning memory by pattern would keep a plan for each.
        options.enable_mem_pattern = False
        self._encode, self._step = (self._session(name, options) for name in (graphs.ENCODE, graphs.DECODE_STEP))

    def encode(self, source: Ids, mask: Ids) -> OnnxState:
        """Run the encoder and the cross-attentions' projections: see `Engine.encode`.

        Raises:
            InputError: An over-long sentence or a token id out of range.
        """
        self.bundle.check_source(source)
        size, step = len(source), self.bundle.graphs[graphs.DECODE_STEP]
        inputs = {"source": self._value(source), "source_mask": self._value(mask)}
        names = self.bundle.graphs[graphs.ENCODE].outputs
        cross = dict(zip(names, self._encode.run_with_ort_values(names, inputs), strict=True))
        empty = graphs.cache_shapes(self.bundle.decoder_shapes, "self_attn", size, 0)
        past = [name for name in step.inputs if name.startswith("past_")]
        return OnnxState(
            {"source_mask": inputs["source_mask"], **cross},
            {name: self._value(np.zeros(shape, np.float32)) for name, shape in zip(past, empty, strict=True)},
            np.arange(size),
        )

    def step(self, tokens: Ids, state: OnnxState) -> tuple[Logits, OnnxState]:
        """Run the decoder on one token a row: see `Engine.step`.

        Raises:
            InputError: A token id out of range, or more steps than the bundle allows.
        """
        self.bundle.check_step(tokens, state.length)
        inputs = {"tokens": self._value(tokens[:, None]), "position": self._value(np.array([state.length]))}
        names = self.bundle.graphs[graphs.DECODE_STEP].outputs
        logits, *caches = self._step.run_with_ort_values(names, inputs | state.source | state.past)
        past = dict(zip(state.past, caches, strict=True))
        return logits.numpy(), replace(state, past=past, length=state.length + 1)

    def reorder(self, state: OnnxState, rows: Ids) -> OnnxState:
        """Select rows of all keys and values: see `Engine.reorder`."""
        past, sentences = self._select(state.past, rows), state.sentences[rows]
        if np.array_equal(sentences, state.sentences):  # beams changed places within their sentence
            return replace(state, past=past)
        return replace(state, past=past, source=self._select(state.source, rows), sentences=sentences)

    def _select(self, values: dict[str, Any], rows: Ids) -> dict[str, Any]:
        return {name: self._value(value.numpy()[rows]) for name, value in values.items()}

    def _value(self, array: np.ndarray[Any, Any]) -> Any:
        return self._runtime.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(array))

    def _session(self, name: str, options: Any) -> Any:
        path = self.bundle.path / self.bundle.graphs[name].file
        try:
            return self._runtime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # its exceptions share no base class
            raise _unreadable(path, error) from None


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
            raise _not_installed("executorch") from error
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
            inputs = [torch.tensor([[int(token)]]), torch.tensor([row.length]), *row.past, *row.cross]
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
                raise _unreadable(path, error) from None


def open_bundle(path: Path, threads: int) -> Engine:
    """Open a finished bundle as an engine.

    Args:
        path: The bundle's directory.
        threads: Threads of one operator.

    Raises:
        ArtifactError: No bundle, damaged files, or made for an incompatible version of the engine.
        MachineError: The engine is not installed.
        InputError: Fewer than one thread.
    """
    if threads < 1:
        raise InputError("too few threads", where="threads", got=threads, wanted="1 or more", fix="correct it")
    artifact.read(path, kind="bundle")
    bundle = read(path)
    _check_version(bundle)
    return ENGINES[bundle.engine](bundle, threads)


def version(engine: str) -> str:
    """Version of an engine on this machine.

    Raises:
        MachineError: It is not installed.
    """
    try:
        return metadata.version(engine)
    except metadata.PackageNotFoundError:
        raise _not_installed(engine) from None


def _check_version(bundle: Bundle) -> None:
    here = version(bundle.engine)
    if _minor(here) == _minor(bundle.engine_version):
        return
    if bundle.engine == "onnxruntime":  # reads older graphs by contract, and most newer ones
        warnings.warn(
            f"{bundle.path} was verified with ONNX Runtime {bundle.engine_version}, here is {here}", stacklevel=3
        )
        return
    raise ArtifactError(
        "bundle for another version of ExecuTorch",
        where=bundle.path,
        got=bundle.engine_version,
        wanted=here,
        fix="export it again on this machine, or install the version it was made with",
    )


def _minor(release: str) -> list[str]:
    return re.findall(r"\d+", release)[:2]


def _not_installed(engine: str) -> MachineError:
    return MachineError(f"{engine} is not installed", fix=f"pip install {engine}")


def _unreadable(path: Path, error: Exception) -> ArtifactError:
    return ArtifactError(
        "the engine does not accept this graph",
        where=path,
        got=str(error).strip().partition("\n")[0],
        fix="export the bundle again",
    )


ENGINES: dict[str, Callable[[Bundle, int], Engine]] = {
    "onnxruntime": OnnxRuntimeEngine,
    "executorch": ExecuTorchEngine,
}
