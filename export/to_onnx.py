"""Write the graphs as ONNX: `encode.onnx` and `decode_step.onnx`, for batches of padded sentences."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import Tensor, nn
from torch.export import Dim

from tprune.errors import ExportError
from tprune.export import graphs
from tprune.export.silence import silence

OPSET = 23  # the first with an `Attention` operator, which replaces a dozen nodes
LARGEST_SINGLE_FILE_BYTES = 1_900_000_000  # a protobuf ends at 2 GiB


def to_onnx(model: nn.Module, folder: Path, max_source: int, max_target: int) -> dict[str, str]:
    """Export a model's two graphs with dynamic batch, source and past lengths.

    Args:
        model: A translation model in evaluation mode.
        folder: Existing directory to write to.
        max_source: Most source tokens of a sentence.
        max_target: Most target tokens of a sentence.

    Returns:
        File name by graph.

    Raises:
        ExportError: The model cannot be traced, or the graph is not valid.
    """
    batch = Dim("batch", min=1, max=65536)
    source = Dim("source", min=1, max=max_source)
    past = Dim("past", min=0, max=max_target - 1)
    encode, step = graphs.Encode(model, padded=True).eval(), graphs.DecodeStep(model, padded=True).eval()
    shapes = step.shapes
    past_count, cross_count = len(graphs.past_names(shapes)), len(graphs.cross_names(shapes))
    # examples avoid lengths 0 and 1, which the tracer would take for constants
    _write(
        encode,
        encode.example(batch=2, source=min(3, max_source)),
        [{0: batch, 1: source}] * 2,
        graphs.encode_inputs(padded=True),
        graphs.cross_names(shapes),
        folder / f"{graphs.ENCODE}.onnx",
    )
    _write(
        step,
        step.example(batch=2, source=min(3, max_source), past=min(5, max_target - 1)),
        [
            {0: batch},
            {},
            {0: batch, 1: source},
            *[{0: batch, 2: past}] * past_count,
            *[{0: batch, 2: source}] * cross_count,
        ],
        graphs.step_inputs(shapes, padded=True),
        graphs.step_outputs(shapes),
        folder / f"{graphs.DECODE_STEP}.onnx",
    )
    return {name: f"{name}.onnx" for name in (graphs.ENCODE, graphs.DECODE_STEP)}


def _write(
    graph: nn.Module,
    example: tuple[Tensor, ...],
    dynamic: Sequence[dict[int, Any]],
    inputs: list[str],
    outputs: list[str],
    path: Path,
) -> None:
    size_bytes = sum(weight.nbytes for weight in graph.parameters())
    try:
        with silence():
            program = torch.onnx.export(
                graph,
                example,
                dynamo=True,
                input_names=inputs,
                output_names=outputs,
                dynamic_shapes=(tuple(dynamic),),  # one entry for `*inputs`
                opset_version=OPSET,
                optimize=True,
                verbose=False,
            )
            assert program is not None
            program.save(path, external_data=size_bytes > LARGEST_SINGLE_FILE_BYTES)
            onnx.checker.check_model(path, full_check=True)
    except (torch.onnx.OnnxExporterError, onnx.checker.ValidationError) as error:
        raise ExportError(
            "the model cannot be written as ONNX", where=path.stem, got=str(error).strip().splitlines()[0]
        ) from error
