"""Write the graphs as one ExecuTorch program, lowered to XNNPACK, for one sentence at a time.

A single sentence has no padding, so the graphs take no mask. `decode_step` has the self-attention caches as inputs and
outputs of dynamic length, for a beam search; `buffered_step` keeps them inside, for a greedy one. The methods share
their weights.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from tprune.errors import ExportError
from tprune.export import buffered, extension, graphs, tensors
from tprune.export.attention import plain
from tprune.export.buffered import BufferedStep
from tprune.export.description import Graph
from tprune.export.silence import silence
from tprune.model.search import Search
from tprune.model.transformer import TPruneForConditionalGeneration

FILE = "model.pte"


def to_executorch(
    model: TPruneForConditionalGeneration,
    folder: Path,
    max_source: int,
    max_target: int,
    _search: Search,
    precision: str = "fp32",
    candidates: int = 0,
) -> dict[str, Graph]:
    """Export a model's graphs as methods of one program.

    Args:
        model: A translation model in evaluation mode.
        folder: Existing directory to write to.
        max_source: Most source tokens of a sentence; memory is planned for it.
        max_target: Most target tokens of a sentence; memory is planned for it.
        precision: fp32 or int8: weights by output channel, activations by token at run time.
        candidates: Most candidates of a sentence, with a shortlist: memory is planned for the output projection's rows
            for them, which stay in fp32, as on ONNX Runtime; 0: logits of all tokens.

    Returns:
        The graphs by method name.

    Raises:
        ExportError: The model cannot be traced or lowered.
    """
    with silence():
        from executorch.backends.xnnpack.partition.xnnpack_partitioner import (
            XnnpackDynamicallyQuantizedPartitioner,
            XnnpackPartitioner,
        )
        from executorch.exir import ExecutorchBackendConfig, to_edge_transform_and_lower
        from executorch.exir.passes import MemoryPlanningPass

    extension.register()
    model = graphs.prepared(buffered.equal_widths(model))
    partitioners = [XnnpackPartitioner()]
    if precision == "int8":
        _quantize(model, output=not candidates)
        partitioners.insert(0, XnnpackDynamicallyQuantizedPartitioner())
    shortlisted = candidates > 0
    encode = graphs.Encode(model, padded=False, heads_last=True, shortlisted=shortlisted)
    step = graphs.DecodeStep(model, padded=False, heads_last=True, shortlisted=shortlisted)
    greedy = BufferedStep(model, max_target, shortlisted)
    shapes, output = step.shapes, step.output
    source = Dim("source", min=1, max=max(max_source, graphs.SHORTEST))
    past = Dim("past", min=0, max=max(max_target, graphs.SHORTEST) - 1)
    count = Dim("count", min=2, max=max(candidates, graphs.FEW + 1))
    known = [{1: source}] * len(tensors.cross_names(shapes)) + [{1: count}, {0: count}][: len(output)]
    given = [{1: source}, {0: count}] if shortlisted else [{1: source}]
    caches = [{2: past}] * len(tensors.past_names(shapes))
    try:
        with silence():
            traced = {
                tensors.ENCODE: _trace(encode, encode.example(batch=1), (tuple(given),)),
                tensors.DECODE_STEP: _trace(step, step.example(batch=1), (({}, {}, *caches, *known),)),
                tensors.BUFFERED_STEP: _trace(greedy, greedy.example(source=3), ({}, {}, tuple(known))),
            }
            program = to_edge_transform_and_lower(
                traced, partitioner=dict.fromkeys(traced, partitioners)
            ).to_executorch(
                # inputs stay where the caller has them instead of being copied
                ExecutorchBackendConfig(memory_planning_pass=MemoryPlanningPass(alloc_graph_input=False))
            )
    except Exception as error:  # the passes raise anything
        raise ExportError(
            "the model cannot be lowered to ExecuTorch",
            got=str(error).partition("\n")[0],
        ) from error
    with (folder / FILE).open("wb") as file:
        program.write_to_file(file)
    known_names = [*tensors.cross_names(shapes), *output]
    return {
        tensors.ENCODE: Graph(file=FILE, inputs=tensors.encode_inputs(False, shortlisted), outputs=known_names),
        tensors.DECODE_STEP: Graph(
            file=FILE, inputs=tensors.step_inputs(shapes, False, output), outputs=tensors.step_outputs(shapes)
        ),
        tensors.BUFFERED_STEP: Graph(file=FILE, inputs=("tokens", "position", *known_names), outputs=("logits",)),
    }


def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float,
    enable_gqa: bool = False,
) -> Tensor:
    """Attention of one sentence without a mask, in operators that XNNPACK has: (1, H, T, K) -> (1, H, T, V).

    PyTorch's own decomposition broadcasts a fourth dimension and guards against rows that are masked
    throughout, in operators that XNNPACK lacks: each attention would fall into five delegates.
    """
    assert attn_mask is None and not is_causal and not dropout_p and not enable_gqa
    q, k, v = query.flatten(0, 1), key.flatten(0, 1), value.flatten(0, 1)  # (1, H, T, K) -> (H, T, K)
    weights = torch.softmax(torch.bmm(q * scale, k.transpose(1, 2)), dim=-1)  # (H, T, S)
    return torch.bmm(weights, v)[None]


def _quantize(model: nn.Module, output: bool) -> None:
    """Turn every `Linear`, the `output` projection too or not, into its 8-bit form that XNNPACK recognizes."""
    with silence():
        from torchao.quantization import Int8DynamicActivationIntxWeightConfig, quantize_
        from torchao.quantization.granularity import PerAxis

        form = Int8DynamicActivationIntxWeightConfig(weight_dtype=torch.int8, weight_granularity=PerAxis(0))
        quantize_(model, form, lambda part, name: isinstance(part, nn.Linear) and (output or name != "lm_head"))


def _trace(graph: nn.Module, example: tuple[Tensor, ...], dynamic: tuple[Any, ...]) -> ExportedProgram:
    with torch.no_grad():
        program = torch.export.export(graph, example, dynamic_shapes=dynamic)
    table = {
        torch.ops.aten.scaled_dot_product_attention.default: attention,
        torch.ops.tprune.cached_attention.default: plain,
    }
    return program.run_decompositions(table)  # type: ignore[no-any-return, unused-ignore]
