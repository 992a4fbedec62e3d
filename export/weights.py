"""One file of weights for all ONNX graphs of a bundle, which engines map into memory.

Equal tensors lie in it once, and so do the first rows of another: the output projection of a trimmed vocabulary is the
beginning of the embedding.
"""

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
        self._whole: list[tuple[int, int]] = []  # offset and length of every tensor in the file
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
            begun = self._beginning_with(data)
            self._offsets[key] = self._append(data) if begun is None else begun
        external_data_helper.set_external_data(tensor, self.path.name, self._offsets[key], len(data))
        tensor.ClearField("raw_data")

    def _append(self, data: bytes) -> int:
        with self.path.open("ab") as file:
            file.write(bytes(-file.tell() % PAGE_BYTES))
            offset = file.tell()
            file.write(data)
        self._whole.append((offset, len(data)))
        return offset

    def _beginning_with(self, data: bytes) -> int | None:
        """Offset of a larger tensor whose first bytes are these."""
        with self.path.open("rb") as file:
            for offset, length in self._whole:
                if length > len(data):
                    for size in (PAGE_BYTES, len(data)):  # most differ in the first page
                        file.seek(offset)
                        if file.read(min(size, len(data))) != data[:size]:
                            break
                    else:
                        return offset
        return None
