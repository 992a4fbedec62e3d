"""One ONNX graph for a whole greedy translation: the encoder, and a `Loop` whose body is the decoding step.

It is put together from the two graphs that the exporter wrote, so that all three compute the same. What
comes from the source is computed before the loop; the body reads it, and all weights, from the scope
around it. The search follows `tprune.model.decode.greedy` to the token, banned and forced ones included.

With a shortlist, the output projection's part for the candidates is taken before the loop, and the best candidate
is turned into its token within.

Shapes: B sentences, S source length, P target tokens so far, T target length, N vocabulary, C candidates.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, compose, helper, numpy_helper

from tprune.export import graphs
from tprune.model.search import Search

LIMITS = "limits"
OUTPUT = "tokens"
BODY = "step/"  # prefix of what belongs to the body: both graphs have a `linear_1`


def translate_graph(
    encode: ModelProto, step: ModelProto, shapes: Sequence[Mapping[str, Any]], search: Search, vocabulary: int
) -> ModelProto:
    """Join `encode` and `decode_step` to one graph.

    Args:
        encode: The graph of `tprune.export.graphs.Encode`, with a mask; it says whether there is a shortlist.
        step: The graph of `tprune.export.graphs.DecodeStep`, with a mask.
        shapes: The decoder's shape by layer.
        search: Special tokens, banned and forced ones.
        vocabulary: Number of target tokens N.

    Returns:
        A graph from source (B, S), source_mask (B, S), maybe candidates (C,), and limits (B,), the most target
        tokens of each sentence, to tokens (B, T): rows end with eos or at their limit, behind it stands padding.
    """
    known = {weight.name: weight.SerializeToString() for weight in encode.graph.initializer}
    own = [weight for weight in step.graph.initializer if known.get(weight.name) != weight.SerializeToString()]
    step = _prefixed(step, {weight.name for weight in own})
    past = graphs.past_names(shapes)
    initializers = [*encode.graph.initializer, *(_renamed(weight) for weight in own)]
    constants = {
        "start": np.array(search.start),
        "eos": np.array(search.eos),
        "pad": np.array(search.pad),
        "one": np.array(1),
        "ones": np.array([1]),
    }
    if search.banned:
        bias = np.zeros(vocabulary, np.float32)
        bias[list(search.banned)] = -np.inf
        constants["banned"] = bias
    if search.forced_bos is not None:
        constants |= {"forced_bos": np.array(search.forced_bos), "first": np.array([0])}
    if search.forced_eos is not None:
        constants["forced_eos"] = np.array(search.forced_eos)
    nodes = list(encode.graph.node)
    given, shortlisted = _names(encode.graph.output), graphs.CANDIDATES in _names(encode.graph.input)
    banned = "banned"
    if shortlisted and search.banned:
        banned = "banned_candidates"
        nodes.append(_node("Gather", ["banned", graphs.CANDIDATES], [banned]))
    nodes += [
        _node("Shape", ["source"], ["batch"], end=1, start=0),
        _node("Expand", ["start", "batch"], ["first_tokens"]),
        _node("ConstantOfShape", ["batch"], ["first_done"], value=numpy_helper.from_array(np.array([False]))),
        _node("ReduceMax", ["limits"], ["longest"], keepdims=0),
    ]
    empty = graphs.cache_shapes(shapes, "self_attn", 1, 0)
    for name, (_, *rest) in zip(past, empty, strict=True):
        constants[f"{name}/rest"] = np.array(rest)
        nodes += [
            _node("Concat", ["batch", f"{name}/rest"], [f"{name}/shape"], axis=0),
            _node("ConstantOfShape", [f"{name}/shape"], [f"first_{name}"]),
        ]
    carried = ["tokens", "done", *past]
    nodes.append(
        _node(
            "Loop",
            ["longest", "", *(f"first_{name}" for name in carried)],
            [*(f"last_{name}" for name in carried), "emitted"],
            body=_body(step, shapes, search, given, banned, shortlisted),
        )
    )
    nodes.append(_node("Transpose", ["emitted"], [OUTPUT], perm=[1, 0]))  # (T, B) -> (B, T)
    initializers += [numpy_helper.from_array(array, name) for name, array in constants.items()]
    graph = helper.make_graph(
        nodes,
        "translate",
        [*encode.graph.input, _integers(LIMITS, "batch")],
        [_integers(OUTPUT, "batch", "length")],
        initializers,
        value_info=encode.graph.value_info,
    )
    return helper.make_model(graph, opset_imports=_opsets(encode, step), ir_version=encode.ir_version)


def _body(
    step: ModelProto,
    shapes: Sequence[Mapping[str, Any]],
    search: Search,
    given: Sequence[str],
    banned: str,
    shortlisted: bool,
) -> onnx.GraphProto:
    past = graphs.past_names(shapes)
    rename = {BODY + name: name for name in ("source_mask", *given)}
    nodes = [_node("Reshape", [BODY + "iteration", "ones"], [BODY + "position"])]
    for node in step.graph.node:
        copied = NodeProto()
        copied.CopyFrom(node)
        copied.input[:] = [rename.get(name, name) for name in node.input]
        nodes.append(copied)
    scores, best = BODY + "logits", BODY + "best"
    if search.banned:
        nodes.append(_node("Add", [scores, banned], [BODY + "allowed"]))
        scores = BODY + "allowed"
    nodes.append(_node("ArgMax", [scores], [best], axis=1, keepdims=0))
    if shortlisted:
        nodes.append(_node("Gather", [graphs.CANDIDATES, best], [BODY + "best_token"]))
        best = BODY + "best_token"
    nodes += [
        _node("Add", [BODY + "iteration", "one"], [BODY + "length"]),
        _node("GreaterOrEqual", [BODY + "length", "limits"], [BODY + "at_limit"]),
    ]
    if search.forced_bos is not None:
        nodes += [
            _node("Equal", [BODY + "position", "first"], [BODY + "is_first"]),
            _node("Where", [BODY + "is_first", "forced_bos", best], [BODY + "begun"]),
        ]
        best = BODY + "begun"
    if search.forced_eos is not None:
        nodes.append(_node("Where", [BODY + "at_limit", "forced_eos", best], [BODY + "ended"]))
        best = BODY + "ended"
    nodes += [
        _node("Where", [BODY + "done", "pad", best], [BODY + "next_tokens"]),
        _node("Equal", [best, "eos"], [BODY + "is_eos"]),
        _node("Or", [BODY + "is_eos", BODY + "at_limit"], [BODY + "ends"]),
        _node("Or", [BODY + "done", BODY + "ends"], [BODY + "next_done"]),
        _node("Cast", [BODY + "next_done"], [BODY + "done_number"], to=TensorProto.INT32),
        _node("ReduceMin", [BODY + "done_number"], [BODY + "all_done_number"], keepdims=0),
        _node("Cast", [BODY + "all_done_number"], [BODY + "all_done"], to=TensorProto.BOOL),
        _node("Not", [BODY + "all_done"], [BODY + "go_on"]),
        _node("Identity", [BODY + "next_tokens"], [BODY + "emitted"]),
    ]
    booleans = TensorProto.BOOL
    declared = {value.name: value for value in (*step.graph.input, *step.graph.output)}
    new = [BODY + name for name in graphs.step_outputs(shapes)[1:]]
    return helper.make_graph(
        nodes,
        "step",
        [
            helper.make_tensor_value_info(BODY + "iteration", TensorProto.INT64, []),
            helper.make_tensor_value_info(BODY + "condition", booleans, []),
            _integers(BODY + "tokens", "batch"),
            helper.make_tensor_value_info(BODY + "done", booleans, ["batch"]),
            *(declared[BODY + name] for name in past),
        ],
        [
            helper.make_tensor_value_info(BODY + "go_on", booleans, []),
            _integers(BODY + "next_tokens", "batch"),
            helper.make_tensor_value_info(BODY + "next_done", booleans, ["batch"]),
            *(declared[name] for name in new),
            _integers(BODY + "emitted", "batch"),
        ],
        value_info=step.graph.value_info,
    )


def _prefixed(model: ModelProto, own: Iterable[str]) -> ModelProto:
    """Every name with BODY before it, save those of weights that `encode` has too."""
    shared = {weight.name for weight in model.graph.initializer} - set(own)
    prefixed = compose.add_prefix(model, BODY)
    for node in prefixed.graph.node:
        node.input[:] = [name.removeprefix(BODY) if name.removeprefix(BODY) in shared else name for name in node.input]
    return prefixed


def _names(values: Iterable[ValueInfoProto]) -> list[str]:
    return [value.name for value in values]


def _renamed(weight: TensorProto) -> TensorProto:
    copied = TensorProto()
    copied.CopyFrom(weight)
    copied.name = BODY + weight.name
    return copied


def _opsets(*models: ModelProto) -> list[onnx.OperatorSetIdProto]:
    versions = {opset.domain: opset.version for model in models for opset in model.opset_import}
    return [helper.make_opsetid(domain, version) for domain, version in versions.items()]


def _integers(name: str, *shape: str) -> ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.INT64, shape)


def _node(operator: str, inputs: Sequence[str], outputs: Sequence[str], **attributes: Any) -> NodeProto:
    return helper.make_node(operator, inputs, outputs, **attributes)
