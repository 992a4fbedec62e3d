"""Write the graphs as ONNX: `encode.onnx` and `decode_step.onnx`, for batches of padded sentences."""

from pathlib import Path
from typing import Any

import onnx
import torch
from onnxscript import opset23 as op
from torch import Tensor, nn
from torch.export import Dim

from tprune.errors import ExportError
from tprune.export import graphs
from tprune.export.description import Graph
from tprune.export.silence import silence
from tprune.model.transformer import TPruneForConditionalGeneration

OPSET = 23  # `op` above: the first with an `Attention` operator, which replaces a dozen nodes
LARGEST_SINGLE_FILE_BYTES = 1_900_000_000  # a protobuf ends at 2 GiB


def to_onnx(model: TPruneForConditionalGeneration, folder: Path, max_source: int, max_target: int) -> dict[str, Graph]:
    """Export a model's two graphs with dynamic batch, source and past lengths.

    Args:
        model: A translation model in evaluation mode.
        folder: Existing directory to write to.
        max_source: Most source tokens of a sentence.
        max_target: Most target tokens of a sentence.

    Returns:
        The graphs by name.

    Raises:
        ExportError: The model cannot be traced, or the graph is not valid.
    """
    encode, step = graphs.Encode(model, padded=True).eval(), graphs.DecodeStep(model, padded=True).eval()
    shapes = step.shapes
    batch = Dim("batch", min=1)
    source = Dim("source", min=1, max=max(max_source, graphs.SHORTEST))
    past = Dim("past", min=0, max=max(max_target, graphs.SHORTEST) - 1)
    caches = [{0: batch, 2: past}] * len(graphs.past_names(shapes))
    cross = [{0: batch, 2: source}] * len(graphs.cross_names(shapes))
    sentence = {0: batch, 1: source}
    found = {
        graphs.ENCODE: Graph(
            file=f"{graphs.ENCODE}.onnx",
            inputs=graphs.encode_inputs(padded=True),
            outputs=graphs.cross_names(shapes),
        ),
        graphs.DECODE_STEP: Graph(
            file=f"{graphs.DECODE_STEP}.onnx",
            inputs=graphs.step_inputs(shapes, padded=True),
            outputs=graphs.step_outputs(shapes),
        ),
    }
    _write(encode, encode.example(batch=2), [sentence] * 2, found[graphs.ENCODE], folder)
    _write(
        step,
        step.example(batch=2),
        [{0: batch}, {}, sentence, *caches, *cross],
        found[graphs.DECODE_STEP],
        folder,
    )
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
    if attn_mask is not None:  # (B, 1, 1, S) -> (B, 1, T, S)
        length = op.Shape(query, start=2, end=3)
        ones = op.Constant(value_ints=[1])
        attn_mask = op.Expand(attn_mask, op.Concat(ones, ones, length, ones, axis=0))
    return op.Attention(query, key, value, attn_mask=attn_mask, scale=scale)[0]


def _write(
    module: nn.Module, example: tuple[Tensor, ...], dynamic: list[dict[int, Dim]], graph: Graph, folder: Path
) -> None:
    path, size_bytes = folder / graph.file, sum(weight.nbytes for weight in module.parameters())
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
                custom_translation_table={torch.ops.aten.scaled_dot_product_attention.default: attention},
                verbose=False,
            )
            assert program is not None
            program.save(path, external_data=size_bytes > LARGEST_SINGLE_FILE_BYTES)
            onnx.checker.check_model(path, full_check=True)
    except (torch.onnx.OnnxExporterError, onnx.checker.ValidationError) as error:
        raise ExportError(
            "the model cannot be written as ONNX", where=graph.file, got=str(error).strip().partition("\n")[0]
        ) from error
