"""What a bundle says of itself in `bundle.json`, for the runtimes here and on the phone."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, field_validator

from tprune.errors import ArtifactError, InputError
from tprune.json_file import read_json, write_json
from tprune.model.engine import Ids
from tprune.section import Section, problems

FILE = "bundle.json"


class Graph(Section):
    """One graph of the bundle: where it is and the order of its tensors, see `tprune.export.tensors`."""

    file: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


class Bundle(Section):
    """What a runtime needs to know besides the graphs themselves."""

    path: Path = Field(exclude=True)
    engine: Literal["onnxruntime", "executorch"]
    engine_version: str
    """Of the engine that the bundle was exported for and verified with."""
    precision: str = "fp32"
    model: str
    """Identity of the model's artifact."""
    parameters: int
    """Of the model, each shared one counted once."""
    seed: int | None = None
    """Of the model's training; None also in bundles that did not say it yet."""
    graphs: Mapping[str, Graph]
    """By name, or by method where one file holds several."""
    vocabulary: int
    """Source token ids are below this."""
    target_vocabulary: int
    decoder_shapes: tuple[Mapping[str, Any], ...]
    max_source: int
    """Most tokens of a source sentence."""
    max_target: int
    """Most decoding steps of a sentence."""
    search: Mapping[str, Any]
    """Fields of `tprune.model.decode.Search`: special tokens and what is banned or forced."""
    tokenizer: tuple[str, ...]
    """The tokenizer's files."""
    shortlist: str | None = None
    """File of the shortlist whose candidates the graphs take, see `tprune.export.shortlist`; None: none."""
    languages: tuple[str, str] | None = None
    """Source and target language of the corpus that it was exported with; None: without one, or not said yet."""
    parity: Mapping[str, Any] | None = None
    """How far the engine's output is from the model's, see `tprune.export.verify`."""

    @field_validator("search")
    @classmethod
    def _as_given(cls, search: Mapping[str, Any]) -> Mapping[str, Any]:
        """JSON knows no tuples."""
        return {name: tuple(value) if isinstance(value, list) else value for name, value in search.items()}

    @property
    def one_by_one(self) -> bool:
        """Whether a sentence's translation would depend on the others of its batch.

        In int8 they share the scale of their activations, with a shortlist their candidates.
        """
        return self.precision != "fp32" or self.shortlist is not None

    def check_source(self, source: Ids) -> None:
        """Refuse (B, S) source ids that the graphs cannot take.

        Raises:
            InputError: An over-long sentence or a token id out of range.
        """
        _check_ids(source, self.vocabulary, "source")
        if source.shape[1] > self.max_source:
            raise InputError(
                "sentence too long for the bundle",
                got=f"{source.shape[1]} tokens",
                wanted=f"at most {self.max_source}",
                fix="split the sentence, or export with a larger export.max_source",
            )

    def check_step(self, tokens: Ids, length: int) -> None:
        """Refuse (B,) target ids that the graphs cannot take after `length` others.

        Raises:
            InputError: A token id out of range, or more steps than the bundle allows.
        """
        _check_ids(tokens, self.target_vocabulary, "target")
        if length >= self.max_target:
            raise InputError(
                "translation too long for the bundle",
                got=f"step {length + 1}",
                wanted=f"at most {self.max_target}",
                fix="limit the search, or export with a larger export.max_target",
            )


def write(bundle: Bundle) -> None:
    """Write `bundle.json` into the bundle's directory."""
    absent = {name for name in ("shortlist", "languages") if getattr(bundle, name) is None}
    write_json(bundle.path / FILE, bundle.model_dump(mode="json", exclude=absent))


def read(path: Path) -> Bundle:
    """Read `bundle.json` of a directory.

    Raises:
        ArtifactError: Missing, no JSON, or fields that do not fit.
    """
    content = read_json(path / FILE)
    try:
        return Bundle.model_validate({**content, "path": path})
    except (ValidationError, TypeError) as error:
        raise ArtifactError(
            "does not describe a bundle",
            where=path / FILE,
            problems=problems(error) if isinstance(error, ValidationError) else (),
            fix="export the bundle again with this version of tprune",
        ) from None


def _check_ids(ids: Ids, size: int, side: str) -> None:
    bad = ids[(ids < 0) | (ids >= size)]
    if len(bad):
        raise InputError(
            f"{side} token id out of range",
            got=int(bad[0]),
            wanted=f"0 to {size - 1}",
            fix="use the tokenizer that lies in the bundle",
        )
