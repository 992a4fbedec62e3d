"""One file of weights for all ONNX graphs of a bundle: equal tensors lie in it once, engines map it into memory."""

import hashlib
from pathlib import Path

import onnx
from onnx import ModelProto, TensorProto, external_data_helper

SMALLEST_BYTES = 1024  # below, a tensor stays in its graph, where shape inference sees it
PAGE_BYTES = 4096  # every tensor begins on a page, as memory mapping wants it


class Weights:
    """The growing file of weights; graphs refer to it by name, offset and length.

    Args:
        path: File to write, beside the graphs.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._offsets: dict[str, int] = {}
        path.write_bytes(b"")

    def take(self, graph_path: Path) -> ModelProto:
        """Read a graph, put its large tensors into the file, and return it referring to them."""
        model = onnx.load(graph_path, load_external_data=False)
        for node in model.graph.node:
            del node.metadata_props[:]  # where in Python it was traced: larger than the graph
        for tensor in model.graph.initializer:
            if external_data_helper.uses_external_data(tensor):
                external_data_helper.load_external_data_for_tensor(tensor, str(graph_path.parent))
                tensor.data_location = TensorProto.DEFAULT
                del tensor.external_data[:]
            if len(tensor.raw_data) >= SMALLEST_BYTES:
                self._move(tensor)
        return model

    def _move(self, tensor: TensorProto) -> None:
        data = tensor.raw_data
        key = hashlib.sha256(data).hexdigest()
        if key not in self._offsets:
            with self.path.open("ab") as file:
                file.write(bytes(-file.tell() % PAGE_BYTES))
                self._offsets[key] = file.tell()
                file.write(data)
        external_data_helper.set_external_data(tensor, self.path.name, self._offsets[key], len(data))
        tensor.ClearField("raw_data")
