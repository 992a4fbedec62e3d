import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from tests.command import tprune
from tests.export.conftest import ENGINES, SETTINGS, Bundles
from tprune.errors import ArtifactError
from tprune.export import description, explain_et, explain_ort, tensors
from tprune.export.bundle import export
from tprune.export.explain import Operator, Part, as_data, explain
from tprune.export.silence import silence

with silence():  # its imports warn
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import schema, to_edge_transform_and_lower
    from executorch.exir._serialize._program import deserialize_pte_binary
    from executorch.extension.pybindings import portable_lib

# the model `post`, by hand: one layer each; queries, keys and values of a self-attention are one product
PRODUCTS = {
    tensors.ENCODE: 1 + 1 + 2 + 2,  # qkv, o, feed-forward; the cross-attention's keys and values
    tensors.DECODE_STEP: 1 + 1 + 1 + 1 + 2 + 1,  # qkv, o; q, o of the cross-attention; feed-forward; vocabulary
}
PRODUCTS[tensors.TRANSLATE] = sum(PRODUCTS.values())
ATTENTIONS = {tensors.ENCODE: 1, tensors.DECODE_STEP: 2, tensors.TRANSLATE: 3}


def graph_of(folder: Path, name: str) -> onnx.GraphProto:
    return onnx.load(folder / description.read(folder).graphs[name].file, load_external_data=False).graph


def test_every_product_of_an_fp32_bundle_has_its_reason(bundles: Bundles) -> None:
    for name, count in PRODUCTS.items():
        found = explain_ort.products(graph_of(bundles("post", "onnxruntime"), name))
        assert found[explain_ort.WEIGHT].total() == count
        assert found[explain_ort.ACTIVATIONS] == {"Attention": ATTENTIONS[name]}
        assert "quantized" not in found


def test_every_product_of_an_int8_bundle_has_its_reason(bundles: Bundles, tmp_path: Path) -> None:
    out = tmp_path / "int8"
    export(bundles.models["post"], out, "onnxruntime", SETTINGS, precision="int8")
    for name, count in PRODUCTS.items():
        found = explain_ort.products(graph_of(out, name))
        assert found["quantized"].total() == count
        assert found[explain_ort.ACTIVATIONS] == {"Attention": ATTENTIONS[name]}
        assert explain_ort.WEIGHT not in found


def test_products_are_told_apart_by_what_they_multiply() -> None:
    def weight(name: str, *shape: int, kind: Any = np.float32) -> TensorProto:
        return numpy_helper.from_array(np.zeros(shape, kind), name)

    inner = helper.make_graph(
        [helper.make_node("MatMul", ["x", "outer"], ["a"]), helper.make_node("MatMul", ["x", "x"], ["b"])],
        "inner",
        [],
        [helper.make_tensor_value_info("b", TensorProto.FLOAT, [2, 2])],
    )
    graph = helper.make_graph(
        [
            helper.make_node("If", ["yes"], ["y"], then_branch=inner, else_branch=inner),
            helper.make_node("DequantizeLinear", ["bytes", "scale"], ["loaded"]),
            helper.make_node("MatMul", ["x", "loaded"], ["c"]),
            helper.make_node("Gather", ["outer", "at"], ["d"]),
            helper.make_node("Gather", ["x", "at"], ["e"]),
            helper.make_node("MatMulInteger", ["q", "bytes"], ["f"]),
            helper.make_node("Add", ["x", "outer"], ["g"]),
        ],
        "graph",
        [],
        [],
        [weight("outer", 2, 2), weight("bytes", 2, 2, kind=np.int8), weight("scale")],
    )
    assert explain_ort.products(graph) == {
        explain_ort.WEIGHT: {"MatMul": 2},
        explain_ort.ACTIVATIONS: {"MatMul": 2},
        "weights stored quantized, multiplied in fp32": {"MatMul": 1},
        "not quantized: reads one row a token of a table": {"Gather": 1},
        "quantized": {"MatMulInteger": 1},
    }


def test_a_profile_is_read_without_its_first_runs(tmp_path: Path) -> None:
    def node(operator: str, ts: int, dur: int, what: str = "kernel") -> dict[str, Any]:
        return {"cat": "Node", "name": f"n_{what}_time", "ts": ts, "dur": dur, "args": {"op_name": operator}}

    events = [{"cat": "Session", "name": "model_run", "ts": ts, "dur": 9} for ts in (100, 200, 300)]
    events += [node("Add", 101, 1000), node("Add", 201, 5), node("Add", 202, 6), node("Add", 301, 7)]
    events += [node("MatMul", 203, 40), node("MatMul", 203, 40, "fence_before"), node("MatMul", 303, 50)]
    (tmp_path / "profile.json").write_text(json.dumps(events))
    assert explain_ort._kernel_us(tmp_path / "profile.json") == {"Add": (1.5, 9.0), "MatMul": (1.0, 45.0)}


def test_what_the_profiler_adds_to_every_call_is_taken_off() -> None:
    profile = {"MatMul": (2.0, 100.0), "Add": (10.0, 60.0), "Cast": (4.0, 4.0)}
    corrected, added = explain_ort.without_profiler(profile, 164.0)
    assert (corrected, added) == ({"MatMul": 100.0, "Add": 60.0, "Cast": 4.0}, 0.0)
    corrected, added = explain_ort.without_profiler(profile, 100.0)  # Cast is gone: 160 - 12 x 5 = 100
    assert added == pytest.approx(5)
    assert corrected == pytest.approx({"MatMul": 90.0, "Add": 10.0, "Cast": 0.0})
    assert explain_ort.without_profiler(profile, 500.0)[1] == 0  # the rest is not in kernels


def test_an_onnx_bundle_is_explained(bundles: Bundles) -> None:
    parts = explain(bundles("post", "onnxruntime"))
    assert [part.name for part in parts] == list(PRODUCTS)
    for part in parts:
        found = {operator.name: operator for operator in part.operators}
        written = Counter(
            node.op_type for node, _ in explain_ort.nodes(graph_of(bundles("post", "onnxruntime"), part.name))
        )
        assert {name: operator.count for name, operator in found.items() if operator.count} == written
        assert part.milliseconds is not None and part.milliseconds > 0
        assert 0 < sum(part.share(operator) or 0 for operator in part.operators) <= 1 + 1e-6
        assert found["Attention"].microseconds is not None
        assert ("Loop" in found) == (part.name == tensors.TRANSLATE)
    loop = next(operator for operator in parts[-1].operators if operator.name == "Loop")
    assert (loop.count, loop.place, loop.microseconds) == (1, "subgraph", None)


class Mixed(nn.Module):
    """Two products that XNNPACK takes, between and behind them sums and a reversal, which it has not."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(4, 6), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        sums = torch.cumsum(torch.cumsum(self.one(x), 1), 1)
        return torch.cumsum(self.two(torch.flip(sums, [1])), 1)


@pytest.fixture(scope="module")
def mixed() -> tuple[Any, Tensor, Tensor]:
    """A program, an input and its output."""
    module, x = Mixed().eval(), torch.randn(2, 4)
    with silence(), torch.no_grad():
        traced = torch.export.export(module, (x,))
        program = to_edge_transform_and_lower({"forward": traced}, partitioner=[XnnpackPartitioner()]).to_executorch()
        return deserialize_pte_binary(bytes(program.buffer)), x, module(x)


def test_delegates_and_operators_outside_them_are_counted(mixed: tuple[Any, Tensor, Tensor]) -> None:
    (plan,) = mixed[0].program.execution_plan
    assert explain_et.delegates(plan) == {"XnnpackBackend": 2}
    assert explain_et.operators(plan) == {"aten::cumsum.out": 3, "aten::flip.out": 1}


def test_a_program_with_repeated_calls_computes_the_same(mixed: tuple[Any, Tensor, Tensor]) -> None:
    program, x, wanted = mixed
    before = explain_et.operators(program.program.execution_plan[0])
    for name in before:
        written = explain_et._repeated(program, "forward", name)
        again = deserialize_pte_binary(written).program.execution_plan[0]
        times = 1 + explain_et.REPEATS
        assert explain_et.operators(again) == {**before, name: times * before[name]}
        assert explain_et.delegates(again) == {"XnnpackBackend": 2}
        with silence():
            (found,) = portable_lib._load_for_executorch_from_buffer(written).forward([x])
        torch.testing.assert_close(found, wanted)
    assert explain_et.operators(program.program.execution_plan[0]) == before


def test_jumps_find_their_destination_behind_repeated_calls() -> None:
    def call(operator: int) -> schema.Instruction:
        return schema.Instruction(schema.KernelCall(op_index=operator, args=[]))

    jump = schema.Instruction(schema.JumpFalseCall(cond_value_index=0, destination_instruction=3))
    plan = schema.ExecutionPlan(
        name="forward",
        container_meta_type=schema.ContainerMetadata("", ""),
        values=[],
        inputs=[],
        outputs=[],
        chains=[schema.Chain([], [], [call(0), jump, call(0), call(1)], None)],
        operators=[schema.Operator("a", ""), schema.Operator("b", "out")],
        delegates=[],
        non_const_buffer_sizes=[0],
    )
    (chain,) = explain_et.repeat(plan, "a", 2).chains
    kinds = [getattr(instruction.instr_args, "op_index", "jump") for instruction in chain.instructions]
    assert kinds == [0, 0, 0, "jump", 0, 0, 0, 1]
    assert chain.instructions[3].instr_args.destination_instruction == 7
    assert jump.instr_args.destination_instruction == 3
    assert explain_et.operators(plan) == {"a": 2, "b.out": 1}


def test_an_executorch_bundle_is_explained(bundles: Bundles) -> None:
    path = bundles("post", "executorch")
    program = deserialize_pte_binary((path / "model.pte").read_bytes()).program
    parts = explain(path)
    assert [part.name for part in parts] == [tensors.ENCODE, tensors.DECODE_STEP, tensors.BUFFERED_STEP]
    for part in parts:
        plan = next(plan for plan in program.execution_plan if plan.name == part.name)
        calls = [type(instruction.instr_args).__name__ for instruction in plan.chains[0].instructions]
        delegates, *outside = part.operators
        assert (delegates.name, delegates.place) == ("XnnpackBackend", "delegate")
        assert delegates.count == calls.count("DelegateCall") > 0
        assert sum(operator.count for operator in outside) == len(calls) - delegates.count
        assert all(operator.microseconds is not None for operator in part.operators)
        assert f"{delegates.count} XNNPACK delegates" in part.notes[0]


@pytest.mark.parametrize("engine", ENGINES)
def test_the_command_prints_tables_or_rows(
    bundles: Bundles, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], engine: str
) -> None:
    part = Part("encode", 2.0, (Operator("Add", 3, "int8", 500.0), Operator("Loop", 1, "subgraph")), 2000.0, ("why",))
    monkeypatch.setattr(f"tprune.export.explain_{'ort' if engine == 'onnxruntime' else 'et'}.parts", lambda *_: [part])
    assert tprune(monkeypatch, "explain", bundles("post", engine)) == 0
    out = capsys.readouterr().out
    assert "encode: 2.00 ms" in out and "why" in out
    row = next(line for line in out.splitlines() if "Add" in line)
    assert row.replace("│", " ").split() == ["Add", "int8", "3", "500.0", "25.0%"]
    assert tprune(monkeypatch, "explain", bundles("post", engine), "--json") == 0
    assert json.loads(capsys.readouterr().out) == json.loads(json.dumps(as_data([part])))
    assert as_data([part])[0]["operators"][0]["share"] == 0.25


def test_what_is_no_bundle_is_not_explained(bundles: Bundles) -> None:
    with pytest.raises(ArtifactError, match=r"wrong kind of artifact · got model · wanted bundle"):
        explain(bundles.models["post"])
