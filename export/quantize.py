"""8-bit weights and activations for ONNX graphs, meaning the same on every processor.

Quantized are the products with a weight: every projection, both maps of a feed-forward network, and the output
projection; their activations at run time, one scale a tensor, their weights beforehand, one scale an output
column. Not quantized are the products inside attention, whose both sides are activations and which are short
at a sentence's length; norms and softmax, which need the range; and the embedding, of which a step reads one row.

Weights are unsigned: signed ones saturate in the 16-bit sums of x86 processors without VNNI, so that a bundle
would translate differently there than on a phone.
"""

from collections import Counter
from pathlib import Path

import onnx
from onnxruntime.quantization import QuantType, quantize_dynamic

from tprune.export.silence import silence

PRODUCTS = ("MatMul", "Gemm")


def quantize(path: Path) -> None:
    """Replace the graph at `path`, with its weights in a file beside it, by its int8 form."""
    model = onnx.load(path)
    _own_weights(model.graph)
    del model.graph.value_info[:]  # transposing a weight leaves the old shape there, and inference stumbles over it
    with silence():
        quantize_dynamic(
            model,
            path,
            op_types_to_quantize=list(PRODUCTS),
            per_channel=True,
            weight_type=QuantType.QUInt8,
            use_external_data_format=True,
            extra_options={"MatMulConstBOnly": True},
        )


def _own_weights(graph: onnx.GraphProto) -> None:
    """Give every product a weight of its own: the tool transposes it, also under the embedding that shares it."""
    weights = {weight.name: weight for weight in graph.initializer}
    used = Counter(name for node in graph.node for name in node.input if name in weights)
    for node in graph.node:
        if node.op_type in PRODUCTS and used[node.input[1]] > 1:
            copied = onnx.TensorProto()
            copied.CopyFrom(weights[node.input[1]])
            node.input[1] = copied.name = f"{node.name}/weight"
            graph.initializer.append(copied)
