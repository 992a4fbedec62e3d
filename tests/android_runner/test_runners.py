"""The runners of both engines on this machine: the same tokens as the Python runtime's."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.android_runner.conftest import start
from tprune.android_runner import journal, run_file
from tprune.android_runner.build import Runner
from tprune.android_runner.run_file import Job
from tprune.export import description
from tprune.export.runtime import open_bundle
from tprune.model import decode
from tprune.model.search import Search

CASES = [
    (engine, precision, mode)
    for engine, known in (("onnxruntime", ("whole", "steps")), ("executorch", ("buffered", "steps")))
    for precision in ("fp32", "int8")
    for mode in known
]


@pytest.mark.parametrize("shortlisted", [False, True], ids=["all tokens", "shortlist"])
@pytest.mark.parametrize(("engine", "precision", "mode"), CASES)
def test_same_tokens_as_python(
    runners: Callable[[str], Runner],
    small_bundles: Callable[..., Path],
    tmp_path: Path,
    engine: str,
    precision: str,
    mode: run_file.Mode,
    shortlisted: bool,
) -> None:
    runner, folder = runners(engine), small_bundles(engine, precision, shortlisted)
    bundle = description.read(folder)
    sentences = [np.random.randint(4, 40, np.random.randint(1, 13)).tolist() for _ in range(60)]
    run_file.write(tmp_path, bundle, Job(mode, threads=1, runs=120, warmup=2), sentences, str(folder))
    ended = start([str(runner.folder / runner.command[-1]), "run.txt"], tmp_path)
    found = journal.finished(ended.journal, engine, ended.said)
    translate = decode.one_by_one(open_bundle(folder, 1), Search(**bundle.search))
    expected = [translate(ids) for ids in sentences]
    assert len({tuple(ids) for ids in expected}) > 4
    assert [one.tokens for one in found.timed] == 2 * expected  # the last round too: nothing planned was overwritten
    assert found.load is not None
    assert (found.load.engine, found.load.engine_version) == (engine, bundle.engine_version)


@pytest.mark.parametrize("engine", ["onnxruntime", "executorch"])
def test_damaged_graphs_and_wrong_modes_are_one_line(
    runners: Callable[[str], Runner], small_bundles: Callable[[str, str], Path], tmp_path: Path, engine: str
) -> None:
    runner, bundle = runners(engine), description.read(small_bundles(engine, "fp32"))
    for graph in bundle.graphs.values():
        (tmp_path / graph.file).write_bytes(b"damaged")
    run_file.write(tmp_path, bundle, Job("steps", threads=1, runs=1), [[5]])
    ended = start([str(runner.folder / runner.command[-1]), "run.txt"], tmp_path)
    assert ended.status == 1
    assert (journal.parse(ended.journal).error or "").startswith(
        {"onnxruntime": "ONNX Runtime: ", "executorch": "ExecuTorch: cannot load"}[engine]
    )
    for graph in bundle.graphs.values():
        (tmp_path / graph.file).write_bytes(b"")
    said = start([str(runner.folder / runner.command[-1]), "run.txt"], tmp_path).said
    assert {"onnxruntime": "ONNX Runtime: ", "executorch": "model.pte: cannot be read: No data available"}[
        engine
    ] in said
    for graph in bundle.graphs.values():
        (tmp_path / graph.file).write_bytes(b"damaged")
    other = {"onnxruntime": "buffered", "executorch": "whole"}[engine]
    text = (tmp_path / "run.txt").read_text().replace("mode steps", f"mode {other}")
    (tmp_path / "run.txt").write_text(text)
    assert f"knows no {other} mode" in start([str(runner.folder / runner.command[-1]), "run.txt"], tmp_path).said
