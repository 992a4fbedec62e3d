"""8-bit weights and activations for ONNX graphs.

Quantized are the products with a weight: every projection, both maps of a feed-forward network, and the output
projection. Not quantized are the products inside attention, whose both sides are activations and which are short
at a sentence's length; norms and softmax, which need the range; and the embedding, of which a step reads one row.

`int8` is the same arithmetic on x86 and on Arm without SME (with it, an emulator's logits differ): activations
unsigned, one scale a tensor, found at run time; weights signed, one scale an output column, in 7 bits. Sums of
products are exact; what is between them is fp32, whose last bit moves an activation by one step of its scale now and
then (docs/device.md). Two products of a full 8-bit weight overflow the 16-bit sums of x86 processors without VNNI, so
that a bundle would translate differently there than on a phone. Unsigned 8-bit weights would not, but x86 holds them
in 16 bits: a step that reads its weights from memory took 1.5 times as long.

`int8-block` gives every block of a column its own scale, for weights and activations: a closer and quicker form for a
token at a time, in the decoding step only, since it is slower for a whole sentence. Its arithmetic is left to ONNX
Runtime, which does not promise the same on every processor.
"""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import GraphProto, NodeProto, helper, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic

from tprune.export.silence import silence

PRODUCTS = ("MatMul", "Gemm")
BLOCK = 128  # inputs that share a scale
INT8_ACTIVATIONS = 4  # accuracy level of MatMulNBits


def quantize(path: Path) -> None:
    """Replace the graph at `path`, with its weights in a file beside it, by its int8 form."""
    model = onnx.load(path)
    _own_weights(model.graph)
    del model.graph.value_info[:]  # transposing a weight leaves the old shape there, and inference stumbles over it
    with TemporaryDirectory(dir=path.parent) as folder:
        whole = Path(folder) / path.name
        onnx.save(model, whole, save_as_external_data=True, location=f"{path.name}.data")
        del model  # the tool reads its own: given the model, it held four copies of gigabytes
        with silence():
            quantize_dynamic(
                whole,
                path,
                op_types_to_quantize=list(PRODUCTS),
                per_channel=True,
                weight_type=QuantType.QInt8,
                reduce_range=True,
                use_external_data_format=True,
                extra_options={"MatMulConstBOnly": True},
            )


def quantize_blocks(path: Path) -> None:
    """Replace the graph at `path`, with its weights in a file beside it, by its int8-block form."""
    model = onnx.load(path)
    graph = model.graph
    weights = {weight.name: weight for weight in graph.initializer}
    for product, weight in _products(graph):
        codes, scales = blocks(weight)
        names = [f"{product.name}/codes", f"{product.name}/scales"]
        graph.initializer.extend(map(numpy_helper.from_array, (codes, scales), names))
        bias = ["", "", product.input[2]] if len(product.input) == 3 else []
        product.CopyFrom(
            helper.make_node(
                "MatMulNBits",
                [product.input[0], *names, *bias],
                product.output,
                name=product.name,
                domain="com.microsoft",
                K=weight.shape[0],
                N=weight.shape[1],
                bits=8,
                block_size=BLOCK,
                accuracy_level=INT8_ACTIVATIONS,
            )
        )
    read = {name for node in graph.node for name in node.input}
    for weight in (weights[name] for name in weights.keys() - read):
        graph.initializer.remove(weight)
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    onnx.save(model, path, save_as_external_data=True, location=f"{path.name}.data")


def blocks(weight: NDArray[np.float32]) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Codes (N, blocks, BLOCK), 128 for zero, and scales (N, blocks) of a weight (K, N); K is filled up with zeros."""
    inner, outer = weight.shape
    filled = np.zeros((outer, -(-inner // BLOCK) * BLOCK), np.float32)
    filled[:, :inner] = weight.T
    by_block = filled.reshape(outer, -1, BLOCK)
    scales = np.maximum(np.abs(by_block).max(2), np.finfo(np.float32).tiny) / np.float32(127)
    return (np.rint(by_block / scales[:, :, None]) + 128).astype(np.uint8), scales


def _products(graph: GraphProto) -> Iterator[tuple[NodeProto, NDArray[np.float32]]]:
    """The products with a weight, and the weight as (K, N)."""
    weights = {weight.name: weight for weight in graph.initializer}
    for node in graph.node:
        if node.op_type in PRODUCTS and node.input[1] in weights:
            weight = numpy_helper.to_array(weights[node.input[1]])
            transposed = any(attribute.name == "transB" and attribute.i for attribute in node.attribute)
            yield node, weight.T if transposed else weight


def _own_weights(graph: GraphProto) -> None:
    """Give every product a weight of its own.

    ONNX Runtime up to 1.31 transposes it, also under the embedding that shares it.
    """
    weights = {weight.name: weight for weight in graph.initializer}
    used = Counter(name for node in graph.node for name in node.input if name in weights)
    for node in graph.node:
        if node.op_type in PRODUCTS and used[node.input[1]] > 1:
            copied = onnx.TensorProto()
            copied.CopyFrom(weights[node.input[1]])
            node.input[1] = copied.name = f"{node.name}/weight"
            graph.initializer.append(copied)
