"""One file for the weights of several graphs."""

from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

from tprune.export.weights import PAGE_BYTES, Weights


def graph(path: Path, **tensors: np.ndarray) -> Path:
    initializers = [numpy_helper.from_array(array, name) for name, array in tensors.items()]
    onnx.save(helper.make_model(helper.make_graph([], "g", [], [], initializers)), path)
    return path


def places(model: onnx.ModelProto) -> dict[str, tuple[int, int]]:
    found = {}
    for tensor in model.graph.initializer:
        said = {entry.key: entry.value for entry in tensor.external_data}
        if said:
            found[tensor.name] = int(said["offset"]), int(said["length"])
    return found


def test_equal_tensors_and_first_rows_lie_in_the_file_once(tmp_path: Path) -> None:
    table = np.random.default_rng(1).random((300, 8), np.float32)
    other = table.copy()
    other[200, 3] += 1  # after the first page
    weights = Weights(tmp_path / "all.data")
    first = places(weights.take(graph(tmp_path / "a.onnx", embed=table, bias=np.ones(3, np.float32))))
    second = places(weights.take(graph(tmp_path / "b.onnx", embed=table, output=table[:100], other=other[:250])))
    assert first == {"embed": (0, table.nbytes)}
    assert second["embed"] == first["embed"]
    assert second["output"] == (0, 100 * 8 * 4)
    offset, length = second["other"]
    assert offset % PAGE_BYTES == 0 and offset >= table.nbytes
    data = (tmp_path / "all.data").read_bytes()
    assert np.array_equal(np.frombuffer(data[offset : offset + length], np.float32).reshape(-1, 8), other[:250])
    assert len(data) == offset + length
