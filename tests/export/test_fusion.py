import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnxruntime import InferenceSession

from tprune.export.fusion import fuse_residual_norms

WIDTH = 6


def _model() -> onnx.ModelProto:
    """Two residual sums, of which one is with a row of a table, and a norm of each; the first sum is read again."""
    chance = np.random.default_rng(0)
    weights = {
        "scale": chance.standard_normal(WIDTH).astype(np.float32),
        "shift": chance.standard_normal(WIDTH).astype(np.float32),
        "table": chance.standard_normal((3, WIDTH)).astype(np.float32),
        "row": np.array([1]),
    }
    nodes = [
        helper.make_node("Gather", ["table", "row"], ["place"]),
        helper.make_node("Add", ["x", "place"], ["placed"]),
        helper.make_node("LayerNormalization", ["placed", "scale", "shift"], ["first"], axis=-1, epsilon=1e-5),
        helper.make_node("Relu", ["first"], ["inner"]),
        helper.make_node("Add", ["placed", "inner"], ["sum"]),
        helper.make_node("LayerNormalization", ["sum", "scale", "shift"], ["normal"], axis=-1, epsilon=1e-3),
        helper.make_node("Add", ["sum", "normal"], ["y"]),
    ]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", WIDTH]) for name in ("x", "y")]
    initializers = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    graph = helper.make_graph(nodes, "residual", values[:1], values[1:], initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def test_the_fused_graph_computes_the_same_and_leaves_broadcast_sums_alone() -> None:
    plain, fused = _model(), _model()
    fuse_residual_norms(fused)
    assert [node.op_type for node in fused.graph.node] == [
        "Gather",
        "Add",
        "LayerNormalization",
        "Relu",
        "SkipLayerNormalization",
        "Add",
    ]
    onnx.checker.check_model(fused)
    x = np.random.default_rng(1).standard_normal((4, WIDTH)).astype(np.float32)
    wanted, got = (InferenceSession(model.SerializeToString()).run(None, {"x": x})[0] for model in (plain, fused))
    assert np.abs(got - wanted).max() < 1e-6


def test_a_graph_without_residual_norms_stays_as_it_is() -> None:
    model = _model()
    del model.graph.node[2:]
    model.graph.output[0].name = "placed"
    before = model.SerializeToString()
    fuse_residual_norms(model)
    assert model.SerializeToString() == before
