"""The result contract: one JSON file holds one list of rows, one row is one measured model.

The names below are fixed and carry their units; further fields are welcome and survive a round
trip. What was not measured is null, never 0.
"""

import os
import platform
import re
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError, model_validator

from tprune.artifact import MANIFEST
from tprune.config import RESERVED
from tprune.errors import ArtifactError
from tprune.json_file import read_json, write_json

SCHEMA: Literal[1] = 1
DENSE, DISTILLED = RESERVED  # the latter is the dense model, trained further on its own translations
LIBRARIES = ("torch", "onnxruntime", "executorch", "ctranslate2", "transformers", "sacrebleu", "numpy")

Kind = Literal["phone", "sbc", "host-x86", "host-arm64", "emulated-arm64"]
NO_BOARD = "linux,dummy-virt"  # what a virtual machine's device tree calls itself
Name = Annotated[str, Field(min_length=1)]
Count = Annotated[int, Field(gt=0)]
PositiveFloat = Annotated[FiniteFloat, Field(gt=0)]
Score = Annotated[FiniteFloat, Field(ge=0, le=100.0001)]


class Part(BaseModel):
    """A part of a row: immutable; unknown fields are kept."""

    model_config = ConfigDict(frozen=True, extra="allow", populate_by_name=True)


class Environment(Part):
    """The machine that ran the measurement."""

    kind: Kind
    cpu: Name


class Latency(Part):
    """Time of one sentence from text or ids to text or ids, in ms."""

    p50: PositiveFloat
    p90: PositiveFloat
    samples: Annotated[tuple[PositiveFloat, ...], Field(min_length=1)]
    """Every timed sentence, in the order of measurement."""

    @model_validator(mode="after")
    def _agrees_with_samples(self) -> Self:
        p50, p90 = np.percentile(self.samples, (50, 90))
        if not np.allclose((self.p50, self.p90), (p50, p90), rtol=1e-3):
            raise ValueError(f"p50 {self.p50:g} and p90 {self.p90:g} are not the samples' {p50:g} and {p90:g}")
        return self


class Verdict(Part):
    """Whether the measurement may be quoted, and why not."""

    ok: bool
    reasons: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _reasons_only_when_refused(self) -> Self:
        if self.ok == bool(self.reasons):
            raise ValueError("ok has to be false exactly when there are reasons")
        return self


class Row(Part):
    """One model on one engine at one precision and thread count, on one test set."""

    schema_version: Literal[1] = Field(default=SCHEMA, alias="schema")
    experiment: Name
    dataset: Name
    split: Name
    model: Name
    """`dense`, `dense-distilled`, or the plan's name."""
    criterion: Name | None = None
    """In an ablation: what tells this row's recipe from the others'."""
    shape: Name | None = None
    """In an ablation: the shape that it is compared on."""
    widths: Literal["same", "own", "dense"] | None = None
    """In an ablation: that shape's, those of its own planner, or all that the dense model has."""
    seed: int | None = None
    """Of the model's training. Rows without a `bootstrap_seed` are of a time when this was the bootstrap's."""
    engine: Name
    engine_version: str | None = None
    precision: Name
    threads: Count | None = None
    decode: Annotated[str, Field(pattern=r"^(greedy|beam[1-9][0-9]*)$")]
    environment: Environment
    model_hash: Name | None = None
    """Identity of the checkpoint, also of that which a bundle was made from."""
    bundle_hash: Name | None = None
    parameters: Count | None = None
    size_bytes: Count | None = None
    latency_ms: Latency | None = None
    baseline: Name | None = None
    """What the speedup is against."""
    speedup: PositiveFloat | None = None
    speedup_lower: PositiveFloat | None = None
    speedup_upper: PositiveFloat | None = None
    """Ends of the 95 % interval."""
    bleu: Score | None = None
    bleu_signature: Name | None = None
    chrf: Score | None = None
    bleu_loss_percent: FiniteFloat | None = None
    """Relative to the dense model in the same engine family; negative is a gain."""
    bleu_loss_upper_percent: FiniteFloat | None = None
    """Upper 95 % bound of the loss."""
    bootstrap_seed: int | None = None
    """Of the resampling behind that bound."""
    made_by: Mapping[str, Any]
    """What `artifact.made_by()` gives: version, commit, dirty flag, command."""
    valid: Verdict

    @model_validator(mode="after")
    def _is_explained(self) -> Self:
        lacking = [
            f"{value} without {reason}"
            for value, reason in (
                ("speedup", "baseline"),
                ("bleu", "bleu_signature"),
                ("bleu_loss_percent", "bleu"),
                ("bleu_loss_upper_percent", "bleu_loss_percent"),
            )
            if getattr(self, value) is not None and getattr(self, reason) is None
        ]
        if lacking:
            raise ValueError(", ".join(lacking))
        return self

    @property
    def dense(self) -> bool:
        """Whether the row is of the unpruned model."""
        return self.model == DENSE

    @property
    def pruned(self) -> bool:
        """Whether anything was cut: further training of the dense model is no pruning either."""
        return self.model not in (DENSE, DISTILLED) and self.widths != "dense"


def write(path: Path, rows: Iterable[Row]) -> None:
    """Write rows as one JSON list, whole or not at all."""
    write_json(path, [row.model_dump(mode="json", by_alias=True) for row in rows])


def read(path: Path) -> list[Row]:
    """Read the rows of one JSON file.

    Raises:
        ArtifactError: No such file, not JSON, no list, an unknown schema, or rows that break the
            contract; all of their problems at once.
    """
    entries = read_json(path)
    if not isinstance(entries, list):
        raise ArtifactError(
            "not a result file",
            where=path,
            got=type(entries).__name__,
            wanted="a list of rows",
            fix="give a file that `tprune bench` wrote",
        )
    unknown = sorted(
        {repr(entry.get("schema")) for entry in entries if isinstance(entry, dict) and entry.get("schema") != SCHEMA}
    )
    if unknown:
        raise ArtifactError(
            "rows of an unknown schema",
            where=path,
            got=", ".join(unknown),
            wanted=SCHEMA,
            fix="measure again with this version of tprune",
        )
    rows, problems = [], []
    for number, entry in enumerate(entries, start=1):
        try:
            rows.append(Row.model_validate(entry))
        except ValidationError as error:
            problems += [f"row {number}: {_clause(found['loc'], found['msg'])}" for found in error.errors()]
    if problems:
        raise ArtifactError(
            "rows break the result contract",
            where=path,
            problems=problems,
            fix="correct the file or measure again; benchmarks/record.py lists the fields",
        )
    return rows


def read_all(sources: Path | Sequence[Path]) -> list[Row]:
    """Read result files, and every result file of a folder, in the order of their names.

    Raises:
        ArtifactError: What `read` refuses, or a folder without results.
    """
    rows: list[Row] = []
    for source in [sources] if isinstance(sources, Path) else sources:
        files = [source]
        if source.is_dir():
            files = sorted(path for path in source.glob("*.json") if path.name != MANIFEST)
            if not files:
                raise ArtifactError("no results in this folder", where=source, fix="run `tprune bench` first")
        for file in files:
            rows += read(file)
    return rows


def environment() -> Environment:
    """This machine: processor, cores, system and library versions."""
    x86 = platform.machine().lower() in ("x86_64", "amd64", "i686")
    facts = {
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "os": platform.platform(),
        "python": platform.python_version(),
        "libraries": _versions(LIBRARIES),
    }
    model = Path("/proc/device-tree/model")
    kind = "host-x86" if x86 else arm_kind(model.read_text(errors="replace") if model.is_file() else "")
    return Environment(kind=kind, cpu=_cpu_name(Path("/proc/cpuinfo")), **facts)


def arm_kind(board: str) -> Kind:
    """What an Arm machine without Android is, by its device tree's model.

    Boards are described by one; servers, laptops and most virtual machines by other means.
    """
    return "sbc" if board.strip("\0\n ") not in ("", NO_BOARD) else "host-arm64"


def _cpu_name(cpuinfo: Path) -> str:
    text = cpuinfo.read_text(encoding="utf-8", errors="replace") if cpuinfo.is_file() else ""
    named = re.search(r"^(?:model name|Model|Hardware)\s*:\s*(\S.*?)\s*$", text, re.MULTILINE)
    return named[1] if named else platform.processor() or platform.machine() or "unknown"


def _versions(libraries: Iterable[str]) -> dict[str, str]:
    found = {}
    for library in libraries:
        try:
            found[library] = version(library)
        except PackageNotFoundError:
            continue
    return found


def _clause(location: tuple[int | str, ...], message: str) -> str:
    key = ".".join(str(part) for part in location)
    message = message.removeprefix("Value error, ")
    return f"{key}: {message}" if key else message
