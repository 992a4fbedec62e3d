"""What a benchmark refuses before it begins: models that have nothing to be compared with, or another direction."""

from pathlib import Path
from typing import Any

import pytest

from tests.artifacts import error_of, make
from tprune import artifact, entries
from tprune.export import description
from tprune.json_file import read_json


@pytest.mark.parametrize(("dense_engine", "got"), [("pytorch", "pytorch"), (None, "no engine")])
def test_an_engine_without_a_dense_model(dense_engine: str | None, got: str, tmp_path: Path) -> None:
    given: Any = make(tmp_path / "model")
    found = {("onnxruntime", "int8", "small"): given} | (
        {(dense_engine, "fp32", "dense"): given} if dense_engine else {}
    )
    assert error_of(entries.require_dense, found) == (
        f"onnxruntime: nothing to compare with · got a dense model for {got} · wanted one for each engine that has a "
        "pruned model · give the dense model as a bundle of that engine: `tprune export DENSE --engine …`"
    )


def bundle(out: Path, languages: tuple[str, str] | None) -> artifact.Artifact:
    with artifact.create(out, "bundle", config={}) as partial:
        said = description.Bundle(
            path=partial, engine="onnxruntime", engine_version="1", model="m", parameters=1, graphs={}, vocabulary=9,
            target_vocabulary=9, decoder_shapes=(), max_source=9, max_target=9, search={}, tokenizer=(),
            languages=languages,
        )  # fmt: skip
        description.write(said)
        assert ("languages" in read_json(partial / description.FILE)) == (languages is not None)
    return artifact.read(out)


def test_a_bundle_of_another_direction(tmp_path: Path) -> None:
    text = make(tmp_path / "text", config={"source": "en", "target": "de"})
    unsaid, own, other = (
        bundle(tmp_path / str(number), languages) for number, languages in enumerate((None, ("en", "de"), ("de", "en")))
    )
    entries.require_direction([make(tmp_path / "model", kind="model"), unsaid, own], text)
    assert error_of(entries.require_direction, [own, other], text) == (
        f"{other.path}: a bundle for other languages than the text's · got de to en · wanted en to de · give the "
        "corpus of its own languages"
    )
