"""Models are compared with a dense one in the same engine, or not at all."""

from pathlib import Path
from typing import Any

import pytest

from tests.artifacts import error_of, make
from tprune.benchmarks.comparison import compare
from tprune.config import Config


@pytest.mark.parametrize(("dense_engine", "got"), [("pytorch", "pytorch"), (None, "no engine")])
def test_an_engine_without_a_dense_model(dense_engine: str | None, got: str, tmp_path: Path) -> None:
    given: Any = make(tmp_path / "model")
    entries = {("onnxruntime", "int8", "small"): given} | (
        {(dense_engine, "fp32", "dense"): given} if dense_engine else {}
    )
    nothing: Any = None
    rows = compare("x", "text", entries, nothing, "de", Config(name="x").bench, tmp_path, print)
    assert error_of(next, rows) == (
        f"onnxruntime: nothing to compare with · got a dense model for {got} · wanted one for each engine that has a "
        "pruned model · give the dense model as a bundle of that engine: `tprune export DENSE --engine …`"
    )
