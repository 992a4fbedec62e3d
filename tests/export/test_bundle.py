from pathlib import Path

import numpy as np
import onnx
import pytest

from tests.export.conftest import CASES, POSITIONS, SETTINGS, Bundles, build
from tprune import artifact
from tprune.delivery_config import Export
from tprune.errors import ArtifactError, ExportError, InputError, ModelError
from tprune.export import bundle as driver
from tprune.export import description
from tprune.export.bundle import EXPORTERS, export, inputs
from tprune.export.runtime import ENGINES, open_bundle
from tprune.export.verify import random_sentences, verify


def test_exporters_and_engines_are_for_the_same_engines() -> None:
    assert EXPORTERS.keys() == ENGINES.keys()
    assert set(EXPORTERS) == set(Export().engines)


@pytest.mark.parametrize(("name", "engine"), CASES)
def test_a_bundle_says_what_it_is_and_holds_what_the_phone_needs(bundles: Bundles, name: str, engine: str) -> None:
    path = bundles(name, engine)
    made, said = artifact.read(path, kind="bundle"), description.read(path)
    parent = artifact.read(bundles.models[name])
    assert made.fingerprint == artifact.fingerprint("bundle", inputs(engine, "fp32", SETTINGS), {"model": parent})
    assert said.model == made.manifest["parents"]["model"]["identity"] == parent.identity
    graph_files = {graph.file for graph in said.graphs.values()}
    weights = {"model.onnx.data"} if engine == "onnxruntime" else set()
    assert set(made.manifest["files"]) == graph_files | weights | {"bundle.json", "tokenizer.json", "source.spm"}
    assert (said.max_source, said.vocabulary) == (12, 40)
    assert said.max_target == POSITIONS < SETTINGS.max_target
    assert said.parameters == sum(parameter.numel() for parameter in build(name).parameters())
    assert said.target_vocabulary == (30 if name in ("pre", "trimmed") else 40)
    assert said.parity is not None and said.parity["sentences"] == 3 and said.parity["max_difference"] < 1e-4
    assert said.parity["tokens"] == POSITIONS + sum(min(POSITIONS, length + 8) for length in (3, 1))


def test_onnx_graphs_hold_each_weight_once(bundles: Bundles) -> None:
    for file in ("encode.onnx", "decode_step.onnx"):
        graph = onnx.load(bundles("post", "onnxruntime") / file).graph
        tables = [weight.name for weight in graph.initializer if sorted(weight.dims) == [24, 40]]
        assert len(tables) == 1
        names = {dimension.dim_param for value in graph.input for dimension in value.type.tensor_type.shape.dim}
        assert names - {""} == {"batch", "source"} | ({"past"} if file == "decode_step.onnx" else set())


def test_an_existing_bundle_is_not_overwritten(bundles: Bundles) -> None:
    path = bundles("post", "onnxruntime")
    before = artifact.read(path).manifest
    with pytest.raises(ArtifactError, match=r"exists already · choose another --out, or replace it with --force"):
        export(bundles.models["post"], path, "onnxruntime", SETTINGS)
    assert artifact.read(path).manifest == before


def test_unusable_requests_are_refused_before_anything_is_written(models: dict[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(InputError, match=r"^no such engine · got tflite · wanted onnxruntime \| executorch"):
        export(models["post"], out, "tflite", SETTINGS)
    with pytest.raises(InputError, match=r"^no sentence to verify with · got 2, all empty or too long · wanted 1 to 1"):
        export(models["post"], out, "onnxruntime", SETTINGS, sentences=[[], [3] * 13])
    with pytest.raises(ArtifactError, match=r"no such artifact"):
        export(tmp_path / "nowhere", out, "onnxruntime", SETTINGS)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("trouble", [ExportError("differs"), KeyboardInterrupt(), MemoryError()])
def test_a_failure_leaves_nothing_half_written(
    models: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trouble: BaseException
) -> None:
    def write_then_fail(*arguments: object) -> None:
        folder = arguments[1]
        assert isinstance(folder, Path)
        (folder / "encode.onnx").write_bytes(b"half")
        raise trouble

    monkeypatch.setattr(driver, "EXPORTERS", {"onnxruntime": write_then_fail})
    with pytest.raises(type(trouble)):
        export(models["post"], tmp_path / "out", "onnxruntime", SETTINGS)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("name", "engine"), [("post", "onnxruntime"), ("post", "executorch")])
def test_a_model_that_differs_is_noticed(bundles: Bundles, name: str, engine: str) -> None:
    path, model = bundles(name, engine), build(name)
    said, run = description.read(path), open_bundle(path, 1)
    sentences = random_sentences(3, 40, 12)
    assert verify(model, run, said, sentences)["different_tokens"] == 0
    bias = model.get_parameter("decoder.layers.0.ffn.fc2.bias").data
    bias[0] += 0.05
    with pytest.raises(
        ExportError, match=rf"^{engine} fp32: the exported graphs differ from the model · got logits off by"
    ):
        verify(model, run, said, sentences)
    bias[0] = float("nan")
    with pytest.raises(ModelError, match=r"the model's output is not a number"):
        verify(model, run, said, sentences)


def test_random_sentences_reach_from_the_longest_to_one_token() -> None:
    sentences = random_sentences(5, 40, 12)
    assert [len(ids) for ids in sentences] == [12, 6, 3, 2, 1]  # about half as long each
    assert sentences == random_sentences(5, 40, 12)
    assert all(0 <= token < 40 for token in np.concatenate(sentences))
