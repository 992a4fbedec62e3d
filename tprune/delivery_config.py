"""Settings of what comes after a model: latency tables, shortlists, bundles, benchmarks, devices."""

from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from tprune.section import Positive, Section, Share

PYTORCH = "pytorch"
"""The engine that runs checkpoints instead of bundles."""
PRECISIONS: Mapping[str, tuple[str, ...]] = {
    "onnxruntime": ("fp32", "int8", "int8-block"),
    "executorch": ("fp32", "int8"),
}
"""What bundles there are of each engine."""

MEASURE = "measure"  # in place of a latency table's path: fill one in the run


class Table(Section):
    """A latency table."""

    engine: Literal["onnxruntime", "executorch"] = "onnxruntime"
    precision: Literal["fp32", "int8", "int8-block"] = "fp32"
    """Of those that the engine has, see PRECISIONS."""
    threads: Positive = 1
    device: str | None = None
    """local, adb[:SERIAL] or ssh:HOST: filled there with the native runner, see `DeviceBench`; None: on this machine,
    with the engine as `tprune translate` uses it."""
    d_models: tuple[Positive, ...] = ()
    """Widths of the residual stream to measure besides the model's own."""
    points: Annotated[int, Field(ge=2)] = 3
    """Most widths that are measured on each axis; between them costs are interpolated."""
    least_width: Positive = 8
    """Narrowest head and feed-forward network; a plan's grid cannot be finer."""
    copies: Positive = 8
    """Sub-layers in a timed model: the more, the surer is the cost of one."""
    source_tokens: Positive = 20
    """Length of the timed sentence, where no corpus tells it."""
    target_tokens: Annotated[int, Field(ge=2)] = 25
    """Length of its translation with eos, where no corpus tells it."""
    rounds: Positive = 20
    """Least number of timed rounds of each model."""
    seconds: Annotated[float, Field(ge=0)] = 0.5
    """Least time of each model in all its rounds."""

    @model_validator(mode="after")
    def _engine_has_it(self) -> Self:
        if self.precision not in PRECISIONS[self.engine]:
            raise ValueError(f"{self.engine} has no {self.precision}, but {' | '.join(PRECISIONS[self.engine])}")
        return self


class Shortlist(Section):
    """Candidates of the output projection, by source token."""

    first: Annotated[int, Field(ge=0)] = 100
    """The most frequent target tokens, candidates of every sentence."""
    best: Annotated[int, Field(ge=0)] = 50
    """Most translations of one source token."""
    threshold: Share = 0.003
    """Smallest p(target token | source token) of a translation."""
    iterations: Positive = 5
    """Of expectation maximization."""


class Export(Section):
    """Bundles to write."""

    engines: tuple[Literal["onnxruntime", "executorch"], ...] = ("onnxruntime", "executorch")
    precisions: tuple[Literal["fp32", "int8", "int8-block"], ...] = ("fp32",)
    """Of those that an engine has, see PRECISIONS."""
    max_source: Positive = 128
    """Most tokens of a source sentence."""
    max_target: Positive = 128
    """Most tokens of a translation, whatever its source."""
    length_factor: Annotated[float, Field(ge=0)] = 1.5
    """A translation is cut off at this many tokens for each source token, and `length_extra` more."""
    length_extra: Positive = 10
    parity_sentences: Positive = 20


class Bench(Section):
    """Latency and quality on this machine."""

    threads: tuple[Positive, ...] = (1, 2)
    engines: tuple[Literal["pytorch", "onnxruntime", "executorch"], ...] = ("pytorch", "onnxruntime", "executorch")
    sentences: Positive = 50
    """Test sentences translated one at a time in each timed round."""
    rounds: Positive = 10
    """Least number of rounds."""
    seconds: Annotated[float, Field(ge=0)] = 3.0
    """Least time of each model in all its rounds: quick ones get more rounds."""
    most_rounds: Positive = 100
    """Rounds after which nobody waits for these seconds any longer."""
    warmup: Annotated[int, Field(ge=0)] = 1
    beam: Positive = 5
    """Beam size of the second column."""
    beam_engines: tuple[Literal["pytorch", "onnxruntime", "executorch"], ...] = ()
    """Engines that are also timed with a beam; without any, PyTorch tells its BLEU."""
    bootstrap: Positive = 1000
    seed: int = 1


class DeviceBench(Section):
    """Latency, memory and quality on a device, see `tprune bench --device`.

    Of a latency table that is filled there, see `tprune table --device`: `pin`, temperatures and `patience_seconds`.
    """

    threads: Positive = 1
    pin: str = "all"
    """all: wherever the kernel likes; big, little: the fastest or slowest cluster; or processors, as 4,5."""
    sentences: Positive = 50
    """Test sentences that are timed, one at a time."""
    warmup: Annotated[int, Field(ge=0)] = 10
    """Sentences of each process before the timed ones."""
    runs: Positive = 50
    """Least number of timed sentences of each process."""
    seconds: Annotated[float, Field(ge=0)] = 10.0
    """Least time of the timed sentences of each process."""
    cold_starts: Positive = 3
    """Processes of each model, in turn with the other models'."""
    sustained_minutes: Annotated[float, Field(ge=0)] = 0.0
    """How long each model is run without a pause besides; 0: not at all."""
    cool_celsius: float = 35.0
    """Warmest that a device may be before a process starts."""
    cool_seconds: Annotated[float, Field(ge=0)] = 300.0
    """Longest wait for that."""
    patience_seconds: Annotated[float, Field(ge=0)] = 60.0
    """How long a device that has vanished is waited for."""
