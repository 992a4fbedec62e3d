"""int8 bundles: what is quantized, and that it means the same wherever it runs."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

from tests.export.conftest import ENGINES, SETTINGS, Bundles, build
from tprune.export import description, tensors
from tprune.export.bundle import export
from tprune.export.quantize import blocks
from tprune.export.runtime import open_bundle
from tprune.model.torch_engine import TorchEngine

Values = np.ndarray[Any, Any]


class SkipLayerNormalization(OpRun):  # type: ignore[misc]
    """ONNX Runtime's operator in NumPy: the norm of a sum, and the sum."""

    op_domain = "com.microsoft"

    def _run(self, x: Values, skip: Values, scale: Values, bias: Values, epsilon: float) -> tuple[Values, ...]:
        total = x + skip
        centered = total - total.mean(-1, keepdims=True)
        normal = centered / np.sqrt(np.square(centered).mean(-1, keepdims=True) + epsilon)
        return (normal * scale + bias).astype(x.dtype), np.empty(0), np.empty(0), total


@pytest.fixture(scope="module")
def int8(bundles: Bundles) -> Path:
    out = bundles.root / "post-int8"
    export(bundles.models["post"], out, "onnxruntime", SETTINGS, precision="int8")
    return out


def test_every_product_with_a_weight_is_int8_and_no_other(int8: Path) -> None:
    for name, products in ((tensors.ENCODE, 1 + 1 + 2 + 2), (tensors.DECODE_STEP, 2 + 2 + 2 + 1)):
        model = onnx.load(int8 / description.read(int8).graphs[name].file)
        operators = [node.op_type for node in model.graph.node]
        assert operators.count("MatMulInteger") == products
        assert "MatMul" not in operators
        assert "Gemm" not in operators
        weights = {weight.name: weight for weight in model.graph.initializer}
        for node in model.graph.node:
            if node.op_type == "MatMulInteger":
                codes = numpy_helper.to_array(weights[node.input[1]])
                assert codes.dtype == np.int8
                assert np.abs(codes.astype(int)).max() <= 64  # 2 x 255 x 64 < 2**15: saturates nowhere


def test_the_engines_kernels_compute_what_the_standard_says(int8: Path) -> None:
    """Against plain integer arithmetic in NumPy: no fused kernel, no vector instructions."""
    run = open_bundle(int8, 1)
    source = np.random.randint(2, 40, (1, 9))
    state = run.encode(source, np.ones_like(source))
    logits, _ = run.step(np.array([5]), state)
    said = description.read(int8)
    encode, step = (
        ReferenceEvaluator(onnx.load(int8 / said.graphs[name].file), new_ops=[SkipLayerNormalization])
        for name in (tensors.ENCODE, tensors.DECODE_STEP)
    )
    cross = encode.run(None, {"source": source, "source_mask": np.ones_like(source)})
    inputs = dict(zip(said.graphs[tensors.ENCODE].outputs, cross, strict=True))
    empty = tensors.cache_shapes(said.decoder_shapes, "self_attn", 1, 0)
    inputs |= {
        name: np.zeros(shape, np.float32)
        for name, shape in zip(tensors.past_names(said.decoder_shapes), empty, strict=True)
    }
    inputs |= {"tokens": np.array([5]), "position": np.array([0]), "source_mask": np.ones_like(source)}
    wanted = step.run(["logits"], inputs)[0]
    assert np.abs(logits - wanted).max() < 1e-5


@pytest.mark.parametrize("engine", ENGINES)
def test_int8_is_close_to_the_model_and_smaller(bundles: Bundles, int8: Path, engine: str, tmp_path: Path) -> None:
    path = int8
    if engine != "onnxruntime":
        export(bundles.models["post"], tmp_path / "int8", engine, SETTINGS, precision="int8")
        path = tmp_path / "int8"
    run, reference = open_bundle(path, 1), TorchEngine(build("post"))
    source = np.random.randint(2, 40, (1, 9))
    mask = np.ones_like(source)
    got, wanted = (each.step(np.array([0]), each.encode(source, mask))[0] for each in (run, reference))
    assert 0 < np.abs(got - wanted).max() < 0.15 * wanted.std()
    said = description.read(path)
    assert said.precision == "int8"
    assert said.parity is not None
    assert 0 < said.parity["relative_error"] < 0.1


def test_blocks_hold_the_weight_to_half_a_step() -> None:
    weight = np.random.standard_normal((200, 3)).astype(np.float32)
    codes, scales = blocks(weight)
    assert codes.shape == (3, 2, 128)
    for column in range(3):
        for start in (0, 128):
            part = weight[start : start + 128, column]
            scale = np.abs(part).max() / 127
            assert scales[column, start // 128] == pytest.approx(scale, rel=1e-6)
            held = (codes[column, start // 128, : len(part)].astype(int) - 128) * scale
            assert np.abs(held - part).max() <= scale / 2 * 1.001
    assert (codes[:, 1, 200 - 128 :] == 128).all()  # zero


def test_blocks_are_for_the_step_and_close_to_the_model(bundles: Bundles, tmp_path: Path) -> None:
    made = export(bundles.models["post"], tmp_path / "blocks", "onnxruntime", SETTINGS, precision="int8-block")
    said = description.read(made.path)
    operators = {
        name: {node.op_type for node in onnx.load(made.path / said.graphs[name].file).graph.node}
        for name in (tensors.ENCODE, tensors.DECODE_STEP)
    }
    assert "MatMulInteger" in operators[tensors.ENCODE]
    assert "MatMulNBits" in operators[tensors.DECODE_STEP]
    assert not {"MatMul", "Gemm", "MatMulInteger"} & operators[tensors.DECODE_STEP]
    assert said.parity is not None
    assert 0 < said.parity["relative_error"] < 0.1
