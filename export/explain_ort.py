"""What runs in the ONNX graphs of a bundle, in which precision, and what it costs by ONNX Runtime's own profile."""

import json
import statistics
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

import numpy as np
import onnx

from tprune.export import tensors
from tprune.export.description import Bundle
from tprune.export.engine_ort import OnnxRuntimeEngine
from tprune.export.explain import Operator, Part, example, steps
from tprune.export.refusals import unreadable
from tprune.model.search import Search

ROUNDS = 9
PRODUCTS = ("MatMul", "Gemm", "FusedMatMul")
QUANTIZED = (
    *("MatMulInteger", "DynamicQuantizeMatMul", "MatMulIntegerToFloat", "MatMulNBits", "QLinearMatMul", "QGemm"),
    *("QAttention", "DynamicQuantizeLSTM"),
)
SCOPES = ("Loop", "If", "Scan")  # their time is that of the nodes inside, and of the profiler around each


def parts(bundle: Bundle, threads: int) -> list[Part]:
    """Every graph's operators; arguments and errors as for `explain`."""
    times = _times_ms(OnnxRuntimeEngine(bundle, threads))
    with TemporaryDirectory() as folder:
        profiled = OnnxRuntimeEngine(bundle, threads, Path(folder))
        _times_ms(profiled)
        profiles = {name: _kernel_us(path) for name, path in profiled.profiles().items()}
    return [
        _part(name, bundle, _graph(bundle.path / bundle.graphs[name].file), profiles.get(name, {}), times.get(name))
        for name in bundle.graphs
    ]


def nodes(graph: onnx.GraphProto) -> Iterator[tuple[onnx.NodeProto, frozenset[str]]]:
    """Every node, those of subgraphs too, with the names of the weights it can see."""
    return _nodes(graph, frozenset())


def products(graph: onnx.GraphProto) -> Mapping[str, Counter[str]]:
    """Why each product is quantized or not, counted by operator."""
    found: dict[str, Counter[str]] = {}
    loaded = {node.output[0] for node, _ in nodes(graph) if node.op_type == "DequantizeLinear"}
    for node, weights in nodes(graph):
        reason = _reason(node, weights, loaded)
        if reason:
            found.setdefault(reason, Counter())[node.op_type] += 1
    return found


def without_profiler(profile: Mapping[str, tuple[float, float]], whole_us: float) -> tuple[dict[str, float], float]:
    """Take off what the profiler adds to every call.

    Args:
        profile: Calls in a run and their microseconds, by operator.
        whole_us: What a run takes without the profiler.

    Returns:
        Microseconds by operator, together at most `whole_us`, and those taken off each call.
    """

    def corrected(added: float) -> dict[str, float]:
        return {name: max(0.0, time - added * calls) for name, (calls, time) in profile.items()}

    if sum(corrected(0.0).values()) <= whole_us:
        return corrected(0.0), 0.0
    low, high = 0.0, max(time / calls for calls, time in profile.values())
    for _ in range(60):  # halvings: the sum falls as `added` grows
        added = (low + high) / 2
        low, high = (added, high) if sum(corrected(added).values()) > whole_us else (low, added)
    return corrected(high), high


def _reason(node: onnx.NodeProto, weights: frozenset[str], loaded: set[str]) -> str | None:
    if node.op_type in QUANTIZED:
        return "quantized"
    if node.op_type == "Attention":
        return ACTIVATIONS
    if node.op_type == "Gather" and node.input[0] in weights | loaded:
        return "not quantized: reads one row a token of a table"
    if node.op_type not in PRODUCTS:
        return None
    if loaded & set(node.input):
        return "weights stored quantized, multiplied in fp32"
    return WEIGHT if weights & set(node.input[:2]) else ACTIVATIONS


def _part(
    name: str,
    bundle: Bundle,
    graph: onnx.GraphProto,
    profile: Mapping[str, tuple[float, float]],
    milliseconds: float | None,
) -> Part:
    counts = Counter(node.op_type for node, _ in nodes(graph))
    kernels = {operator: entry for operator, entry in profile.items() if operator not in SCOPES}
    whole = sum(time for _, time in kernels.values()) if milliseconds is None else milliseconds * 1000
    times, added = without_profiler(kernels, whole)
    operators = [
        Operator(
            operator,
            counts[operator],
            "int8" if operator in QUANTIZED else "subgraph" if operator in SCOPES else "",
            times.get(operator),
        )
        for operator in {**counts, **profile}
    ]
    operators.sort(key=lambda operator: -(operator.microseconds or 0))
    because = "the bundle is fp32" if bundle.precision == "fp32" else "the quantizer left them"
    notes = [
        f"{' and '.join(f'{count} {operator}' for operator, count in kinds.items())}: {reason.format(because)}"
        for reason, kinds in products(graph).items()
    ]
    notes.append("counts are the file's, a loop's body counted once; – = fused or folded away when the graph is loaded")
    if milliseconds is not None:
        notes.append("times are those of ONNX Runtime's profiler, a loop's body included")
    if added:
        notes.append(
            f"the {added:.1f} µs that it adds to every call are taken off: the sum is what a run takes without it"
        )
    return Part(name, milliseconds, tuple(operators), whole, tuple(notes))


def _kernel_us(path: Path) -> dict[str, tuple[float, float]]:
    """By operator: calls in one run, and the microseconds of all of them; means, the first runs left out."""
    events = json.loads(path.read_text(encoding="utf-8"))
    runs = sorted(event["ts"] for event in events if event["name"] == "model_run")
    warm = runs[len(runs) // 3]  # a third warms up
    counted = len([start for start in runs if start >= warm])
    calls: Counter[str] = Counter()
    total: Counter[str] = Counter()
    for event in events:
        if event["cat"] == "Node" and event["name"].endswith("_kernel_time") and event["ts"] >= warm:
            calls[event["args"]["op_name"]] += 1
            total[event["args"]["op_name"]] += event["dur"]
    return {name: (calls[name] / counted, total[name] / counted) for name in calls}


def _times_ms(engine: OnnxRuntimeEngine) -> dict[str, float]:
    """Run every graph of the bundle in turn: median milliseconds of each."""
    runs = {name: run for name, run in RUNS.items() if name in engine.bundle.graphs}
    return {name: statistics.median(run(engine) for _ in range(ROUNDS)) for name, run in runs.items()}


def _encode_ms(engine: OnnxRuntimeEngine) -> float:
    source = example(engine.bundle)
    start = perf_counter()
    engine.encode(source, np.ones_like(source))
    return (perf_counter() - start) * 1000


def _step_ms(engine: OnnxRuntimeEngine) -> float:
    """Mean of the steps of one sentence."""
    source, tokens = example(engine.bundle), np.array([int(engine.bundle.search["start"])])
    state, count = engine.encode(source, np.ones_like(source)), steps(engine.bundle)
    start = perf_counter()
    for _ in range(count):
        _, state = engine.step(tokens, state)
    return (perf_counter() - start) * 1000 / count


def _translate_ms(engine: OnnxRuntimeEngine) -> float:
    source = example(engine.bundle)
    start = perf_counter()
    engine.greedy(source, np.ones_like(source), Search(**engine.bundle.search))
    return (perf_counter() - start) * 1000


def _graph(path: Path) -> onnx.GraphProto:
    try:
        return onnx.load(path, load_external_data=False).graph
    except Exception as error:  # protobuf's own, which is not exported
        raise unreadable(path, error) from None


def _nodes(graph: onnx.GraphProto, outer: frozenset[str]) -> Iterator[tuple[onnx.NodeProto, frozenset[str]]]:
    weights = outer | {weight.name for weight in graph.initializer}
    for node in graph.node:
        yield node, weights
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield from _nodes(attribute.g, weights)


WEIGHT = "a product with a weight, not quantized: {}"
ACTIVATIONS = "not quantized: activations on both sides, short at a sentence's length"

RUNS: Mapping[str, Callable[[OnnxRuntimeEngine], float]] = {
    tensors.ENCODE: _encode_ms,
    tensors.DECODE_STEP: _step_ms,
    tensors.TRANSLATE: _translate_ms,
}
