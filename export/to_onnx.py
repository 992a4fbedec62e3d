"""Write the graphs as ONNX, for batches of padded sentences, with their weights in one file.

`encode.onnx` and `decode_step.onnx` serve a beam search, `translate.onnx` is a whole greedy translation.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import onnx
import torch
from onnx import ModelProto
from onnxscript import opset23 as op
from torch import Tensor, nn
from torch.export import Dim

from tprune.errors import ExportError
from tprune.export import graphs, loop, tensors
from tprune.export.description import Graph
from tprune.export.fusion import fuse_residual_norms
from tprune.export.quantize import quantize, quantize_blocks
from tprune.export.silence import silence
from tprune.export.weights import Weights
from tprune.model.search import Search
from tprune.model.transformer import TPruneForConditionalGeneration

OPSET = 23  # `op` above: the first with an `Attention` operator, which replaces a dozen nodes
WEIGHTS = "model.onnx.data"


def to_onnx(
    model: TPruneForConditionalGeneration,
    folder: Path,
    max_source: int,
    max_target: int,
    search: Search,
    precision: str = "fp32",
    candidates: int = 0,
) -> dict[str, Graph]:
    """Export a model's graphs with dynamic batch, source and past lengths.

    Args:
        model: A translation model.
        folder: Existing directory to write to.
        max_source: Most source tokens of a sentence.
        max_target: Most target tokens of a sentence.
        search: Special tokens of the greedy search.
        precision: fp32, int8 or int8-block, see `tprune.export.quantize`.
        candidates: Most candidates of a sentence, with a shortlist; 0: logits of all tokens. The candidates' weights
            stay in fp32, also in int8: gathered once a sentence, these are as fast as gathered int8 ones
            (benchmarks/results/experiments.md), exact, and mostly in the file anyway, as the embedding.

    Returns:
        The graphs by name.

    Raises:
        ExportError: The model cannot be traced, or a graph is not valid.
    """
    model, shortlisted = graphs.prepared(model), candidates > 0
    encode = graphs.Encode(model, padded=True, shortlisted=shortlisted)
    step = graphs.DecodeStep(model, padded=True, shortlisted=shortlisted)
    shapes, output = step.shapes, step.output
    batch = Dim("batch", min=1)
    source = Dim("source", min=1, max=max(max_source, graphs.SHORTEST))
    past = Dim("past", min=0, max=max(max_target, graphs.SHORTEST) - 1)
    caches = [{0: batch, 2: past}] * len(tensors.past_names(shapes))
    cross = [{0: batch, 2: source}] * len(tensors.cross_names(shapes))
    sentence = {0: batch, 1: source}
    count = Dim("count", min=2, max=graphs.size_of(model))
    chosen = [{0: count}] if shortlisted else []
    gathered = [{1: count}, {0: count}][: len(output)]
    found = {
        tensors.ENCODE: Graph(
            file=f"{tensors.ENCODE}.onnx",
            inputs=tensors.encode_inputs(padded=True, shortlisted=shortlisted),
            outputs=[*tensors.cross_names(shapes), *output],
        ),
        tensors.DECODE_STEP: Graph(
            file=f"{tensors.DECODE_STEP}.onnx",
            inputs=tensors.step_inputs(shapes, padded=True, output=output),
            outputs=tensors.step_outputs(shapes),
        ),
        tensors.TRANSLATE: Graph(
            file=f"{tensors.TRANSLATE}.onnx",
            inputs=[*tensors.encode_inputs(padded=True, shortlisted=shortlisted), loop.LIMITS],
            outputs=(loop.OUTPUT,),
        ),
    }
    with TemporaryDirectory(dir=folder) as parts:
        traced = Path(parts)
        _trace(encode, encode.example(batch=2), [sentence, sentence, *chosen], found[tensors.ENCODE], traced)
        given = [{0: batch}, {}, sentence, *caches, *cross, *gathered]
        _trace(step, step.example(batch=2), given, found[tensors.DECODE_STEP], traced)
        for name, form in QUANTIZED.get(precision, {}).items():
            form(traced / found[name].file)
        weights = Weights(folder / WEIGHTS)
        written = {name: weights.take(traced / found[name].file) for name in (tensors.ENCODE, tensors.DECODE_STEP)}
        for graph in written.values():
            fuse_residual_norms(graph)
    written[tensors.TRANSLATE] = loop.translate_graph(
        written[tensors.ENCODE],
        written[tensors.DECODE_STEP],
        shapes,
        search,
        graphs.size_of(model),
    )
    _write({found[name].file: proto for name, proto in written.items()}, folder)
    return found


def attention(
    query: Any,
    key: Any,
    value: Any,
    attn_mask: Any = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Any:
    """Write attention as one `Attention` node: (B, H, T, K) -> (B, H, T, V).

    ONNX Runtime's kernel wants the mask's third dimension written out, against the standard.
    """
    assert not is_causal and not dropout_p and not enable_gqa
    if attn_mask is not None and query.shape[2] != 1:  # (B, 1, 1, S) -> (B, 1, T, S)
        length = op.Shape(query, start=2, end=3)
        ones = op.Constant(value_ints=[1])
        attn_mask = op.Expand(attn_mask, op.Concat(ones, ones, length, ones, axis=0))
    return op.Attention(query, key, value, attn_mask=attn_mask, scale=scale)[0]


def cached_attention(query: Any, keys: Any, values: Any, past_keys: Any, past_values: Any, scale: float) -> Any:
    """Write `tprune.export.attention.cached_attention` as one `Attention` node, which grows the caches as well."""
    heads = past_keys.shape[1]
    return op.Attention(
        query, keys, values, None, past_keys, past_values, q_num_heads=heads, kv_num_heads=heads, scale=scale
    )[:3]


def _trace(
    module: nn.Module, example: tuple[Tensor, ...], dynamic: list[dict[int, Dim]], graph: Graph, folder: Path
) -> None:
    try:
        with silence():
            program = torch.onnx.export(
                module,
                example,
                dynamo=True,
                input_names=graph.inputs,
                output_names=graph.outputs,
                dynamic_shapes=(tuple(dynamic),),  # one entry for `*inputs`
                opset_version=OPSET,
                optimize=True,
                custom_translation_table={
                    torch.ops.aten.scaled_dot_product_attention.default: attention,
                    torch.ops.tprune.cached_attention.default: cached_attention,
                },
                verbose=False,
            )
            assert program is not None
            program.save(folder / graph.file, external_data=True)  # a protobuf ends at 2 GiB
    except torch.onnx.OnnxExporterError as error:
        raise _refused(graph.file, error) from error


def _write(models: Mapping[str, ModelProto], folder: Path) -> None:
    for file, model in models.items():
        try:
            onnx.save(model, folder / file)
            onnx.checker.check_model(folder / file, full_check=True)
        except onnx.checker.ValidationError as error:
            raise _refused(file, error) from error


def _refused(file: str, error: Exception) -> ExportError:
    return ExportError("the model cannot be written as ONNX", where=file, got=str(error).strip().partition("\n")[0])


QUANTIZED: Mapping[str, Mapping[str, Callable[[Path], None]]] = {
    "int8": {tensors.ENCODE: quantize, tensors.DECODE_STEP: quantize},
    "int8-block": {tensors.ENCODE: quantize, tensors.DECODE_STEP: quantize_blocks},
}
