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

from tprune.export import tensors
from tprune.export.tensors import CANDIDATES
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
        tokens of each sentence, to tokens (B, T): rows end with eos or at their limit, and mean nothing behind.
    """
    known = {weight.name: weight.SerializeToString() for weight in encode.graph.initializer}
    own = [weight for weight in step.graph.initializer if known.get(weight.name) != weight.SerializeToString()]
    step = _prefixed(step, {weight.name for weight in own})
    past = tensors.past_names(shapes)
    initializers = [*encode.graph.initializer, *(_renamed(weight) for weight in own)]
    constants = {
        "start": np.array(search.start),
        "eos": np.array(search.eos),
        "zero": np.array(0),
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
    given, shortlisted = _names(encode.graph.output), CANDIDATES in _names(encode.graph.input)
    banned = "banned"
    if shortlisted and search.banned:
        banned = "banned_candidates"
        nodes.append(_node("Gather", ["banned", CANDIDATES], [banned]))
    once, each = _separated(step, ("source_mask", *given), (*past, "tokens", "position"))
    nodes += once
    nodes += [
        _node("Shape", ["source"], ["batch"], end=1, start=0),
        _node("Expand", ["start", "batch"], ["first_tokens"]),
        _node("Identity", ["limits"], ["first_ends"]),
        _node("ReduceMax", ["limits"], ["longest"], keepdims=0),
    ]
    empty = tensors.cache_shapes(shapes, "self_attn", 1, 0)
    for name, (_, *rest) in zip(past, empty, strict=True):
        constants[f"{name}/rest"] = np.array(rest)
        nodes += [
            _node("Concat", ["batch", f"{name}/rest"], [f"{name}/shape"], axis=0),
            _node("ConstantOfShape", [f"{name}/shape"], [f"first_{name}"]),
        ]
    carried = ["tokens", "ends", *past]
    nodes.append(
        _node(
            "Loop",
            ["longest", "", *(f"first_{name}" for name in carried)],
            [*(f"last_{name}" for name in carried), "emitted"],
            body=_body(step, each, shapes, search, banned, shortlisted),
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


def _separated(
    step: ModelProto, shared: Iterable[str], changing: Iterable[str]
) -> tuple[list[NodeProto], list[NodeProto]]:
    """The step's nodes that give the same at every step, and the others; both in their order.

    Args:
        step: The prefixed step.
        shared: Its inputs that come from outside the loop.
        changing: Its inputs that are others at every step.
    """
    outer = {BODY + name: name for name in shared}
    varies = {BODY + name for name in changing}
    once, each = [], []
    for node in step.graph.node:
        copied = NodeProto()
        copied.CopyFrom(node)
        copied.input[:] = [outer.get(name, name) for name in node.input]
        if varies & set(copied.input):
            varies |= set(copied.output)
            each.append(copied)
        else:
            once.append(copied)
    return once, each


def _body(
    step: ModelProto,
    each: Sequence[NodeProto],
    shapes: Sequence[Mapping[str, Any]],
    search: Search,
    banned: str,
    shortlisted: bool,
) -> onnx.GraphProto:
    """The loop's body; `ends` is the number of tokens after which a sentence is over."""
    past = tensors.past_names(shapes)
    nodes = [_node("Reshape", [BODY + "iteration", "ones"], [BODY + "position"]), *each]
    scores, best = BODY + "logits", BODY + "best"
    if search.banned:
        nodes.append(_node("Add", [scores, banned], [BODY + "allowed"]))
        scores = BODY + "allowed"
    nodes.append(_node("ArgMax", [scores], [best], axis=1, keepdims=0))
    if shortlisted:
        nodes.append(_node("Gather", [CANDIDATES, best], [BODY + "best_token"]))
        best = BODY + "best_token"
    nodes += [
        _node("Add", [BODY + "iteration", "one"], [BODY + "length"]),
    ]
    if search.forced_bos is not None:
        nodes += [
            _node("Equal", [BODY + "position", "first"], [BODY + "is_first"]),
            _node("Where", [BODY + "is_first", "forced_bos", best], [BODY + "begun"]),
        ]
        best = BODY + "begun"
    if search.forced_eos is not None:
        nodes += [
            _node("Equal", [BODY + "length", "limits"], [BODY + "at_limit"]),
            _node("Where", [BODY + "at_limit", "forced_eos", best], [BODY + "ended"]),
        ]
        best = BODY + "ended"
    nodes += [
        _node("Equal", [best, "eos"], [BODY + "is_eos"]),
        _node("Where", [BODY + "is_eos", "zero", BODY + "ends"], [BODY + "next_ends"]),
        _node("ReduceMax", [BODY + "next_ends"], [BODY + "last_end"], keepdims=0),
        _node("Less", [BODY + "length", BODY + "last_end"], [BODY + "go_on"]),
        _node("Identity", [best], [BODY + "emitted"]),
    ]
    booleans = TensorProto.BOOL
    declared = {value.name: value for value in (*step.graph.input, *step.graph.output)}
    new = [BODY + name for name in tensors.step_outputs(shapes)[1:]]
    return helper.make_graph(
        nodes,
        "step",
        [
            helper.make_tensor_value_info(BODY + "iteration", TensorProto.INT64, []),
            helper.make_tensor_value_info(BODY + "condition", booleans, []),
            _integers(BODY + "tokens", "batch"),
            _integers(BODY + "ends", "batch"),
            *(declared[BODY + name] for name in past),
        ],
        [
            helper.make_tensor_value_info(BODY + "go_on", booleans, []),
            _integers(best, "batch"),
            _integers(BODY + "next_ends", "batch"),
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
