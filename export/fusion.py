"""Operators of ONNX Runtime's own that do in one pass over memory what standard ones do in two.

They belong to every build of ONNX Runtime, the mobile ones included.
"""

from collections import defaultdict

from onnx import ModelProto, NodeProto, helper

DOMAIN = "com.microsoft"


def fuse_residual_norms(model: ModelProto) -> None:
    """Replace each sum of two activations that a layer norm reads by one `SkipLayerNormalization`, in place.

    Such a norm gives its sum as well, to whoever else reads it. It does not broadcast, so that sums with rows of a
    table, which are the embeddings' with the positions, stay what they are.
    """
    graph = model.graph
    constants = {weight.name for weight in graph.initializer}
    constants |= {node.output[0] for node in graph.node if node.op_type == "Gather"}
    readers: dict[str, list[NodeProto]] = defaultdict(list)
    for node in graph.node:
        for name in node.input:
            readers[name].append(node)
    fused: dict[str, NodeProto] = {}  # by the name of the sum
    gone: set[str] = set()  # outputs of norms
    for node in graph.node:
        norms = [reader for reader in readers[node.output[0]] if reader.op_type == "LayerNormalization"]
        if node.op_type != "Add" or constants & set(node.input) or len(norms) != 1 or len(norms[0].input) != 3:
            continue
        (norm,) = norms
        epsilon = next((attribute.f for attribute in norm.attribute if attribute.name == "epsilon"), 1e-5)
        fused[node.output[0]] = helper.make_node(
            "SkipLayerNormalization",
            [*node.input, *norm.input[1:]],
            [norm.output[0], "", "", node.output[0]],
            name=norm.name,
            domain=DOMAIN,
            epsilon=epsilon,
        )
        gone.add(norm.output[0])
    if not fused:
        return
    nodes = [fused.get(node.output[0], node) for node in graph.node if node.output[0] not in gone]
    del graph.node[:]
    graph.node.extend(nodes)
    if DOMAIN not in {opset.domain for opset in model.opset_import}:
        model.opset_import.append(helper.make_opsetid(DOMAIN, 1))
