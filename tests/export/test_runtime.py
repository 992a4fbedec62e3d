import json
import shutil
import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.export.conftest import CASES, ENGINES, POSITIONS, SETTINGS, Bundles, build
from tprune import artifact
from tprune.errors import ArtifactError, InputError
from tprune.export import description, tensors
from tprune.export.bundle import export
from tprune.export.runtime import open_bundle
from tprune.json_file import read_json, write_json
from tprune.model.decode import translate
from tprune.model.engine import Engine
from tprune.model.search import Search
from tprune.model.torch_engine import TorchEngine
from tprune.model.transformer import TPruneForConditionalGeneration

every_case = pytest.mark.parametrize(("name", "engine"), CASES)


def opened(bundles: Bundles, name: str, engine: str) -> Engine:
    return open_bundle(bundles(name, engine), threads=1)


def wanted_logits(model: TPruneForConditionalGeneration, source: Any, mask: Any, tokens: Any) -> Any:
    with torch.no_grad():
        arrays = (torch.from_numpy(array) for array in (source, mask, tokens))
        ids, attend, fed = arrays
        return model(ids, attend, decoder_input_ids=fed, use_cache=False).logits.numpy()


def fed_logits(engine: Engine, source: Any, mask: Any, tokens: Any) -> Any:
    state, found = engine.encode(source, mask), []
    for column in tokens.T:
        logits, state = engine.step(column, state)
        found.append(logits)
    return np.stack(found, axis=1)


@every_case
def test_every_source_length_and_every_past_length_give_the_models_logits(
    bundles: Bundles, name: str, engine: str
) -> None:
    run, model = opened(bundles, name, engine), build(name)
    for length in range(1, SETTINGS.max_source + 1):
        source, tokens = np.random.randint(0, 40, (1, length)), np.random.randint(0, 30, (1, POSITIONS))
        mask = np.ones_like(source)
        got, wanted = fed_logits(run, source, mask, tokens), wanted_logits(model, source, mask, tokens)
        assert got.dtype == np.float32
        assert np.abs(got - wanted).max() < 2e-5


@every_case
def test_padded_batches_give_each_sentence_its_own_logits(bundles: Bundles, name: str, engine: str) -> None:
    run, model = opened(bundles, name, engine), build(name)
    source, tokens = np.random.randint(0, 40, (4, 9)), np.random.randint(0, 30, (4, 3))
    mask = (np.arange(9) < np.array([9, 1, 4, 7])[:, None]).astype(np.int64)
    got = fed_logits(run, source, mask, tokens)
    for row, length in enumerate(mask.sum(1)):
        alone = wanted_logits(
            model, source[row : row + 1, :length], mask[row : row + 1, :length], tokens[row : row + 1]
        )
        assert np.abs(got[row] - alone[0]).max() < 2e-5


@pytest.mark.parametrize("engine", ENGINES)
def test_a_source_may_be_longer_than_any_translation(models: Mapping[str, Path], tmp_path: Path, engine: str) -> None:
    export(models["post"], tmp_path / "bundle", engine, SETTINGS.model_copy(update={"max_target": 5}))
    search = Search(**description.read(tmp_path / "bundle").search)
    assert (search.limit, search.longest_source) == (5, SETTINGS.max_source)
    sentences = [np.random.randint(2, 40, SETTINGS.max_source).tolist() for _ in range(3)]
    for beams in (1, 3):
        wanted = translate(TorchEngine(build("post")), sentences, replace(search, beams=beams))
        assert translate(open_bundle(tmp_path / "bundle", 1), sentences, replace(search, beams=beams)) == wanted


@every_case
@pytest.mark.parametrize("beams", [1, 3])
def test_translations_are_those_of_torch(bundles: Bundles, name: str, engine: str, beams: int) -> None:
    run, model = opened(bundles, name, engine), build(name)
    sentences = [[*np.random.randint(2, 40, length).tolist(), 1] for length in (3, 1, 7, 11, 2)]
    search = Search(**{**description.read(bundles(name, engine)).search, "beams": beams})
    assert search == Search.of(model, limit=POSITIONS, source_limit=SETTINGS.max_source, beams=beams)
    assert translate(run, sentences, search) == translate(TorchEngine(model), sentences, search)


@every_case
def test_reorder_selects_rows_that_go_on_by_themselves(bundles: Bundles, name: str, engine: str) -> None:
    run = opened(bundles, name, engine)
    source, tokens = np.random.randint(0, 40, (3, 5)), np.random.randint(0, 30, (3, 2))
    state = run.encode(source, np.ones_like(source))
    _, state = run.step(tokens[:, 0], state)
    logits, _ = run.step(tokens[:, 1], state)
    rows = np.array([2, 0, 0, 1])
    chosen = run.reorder(state, rows)
    again, after = run.step(tokens[rows, 1], chosen)
    np.testing.assert_allclose(again, logits[rows], atol=1e-6)
    swapped, _ = run.step(tokens[[1, 0], 0], run.reorder(after, np.array([1, 2])))  # the same sentence twice
    straight, _ = run.step(tokens[[0, 1], 0], run.reorder(after, np.array([2, 1])))
    np.testing.assert_allclose(swapped[::-1], straight, atol=1e-6)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_step_leaves_the_state_it_was_given_alone(bundles: Bundles, engine: str) -> None:
    run, source = opened(bundles, "post", engine), np.array([[4, 5, 6, 1]])
    state = run.encode(source, np.ones_like(source))
    _, state = run.step(np.array([0]), state)
    first, _ = run.step(np.array([7]), state)
    for token in range(5):
        run.step(np.array([token]), state)
    again, _ = run.step(np.array([7]), state)
    assert np.array_equal(first, again)


@pytest.mark.parametrize("engine", ENGINES)
def test_engines_with_different_threads_live_side_by_side(bundles: Bundles, engine: str) -> None:
    source = np.array([[4, 5, 6, 1]])
    found = []
    one, two = (open_bundle(bundles("post", engine), threads) for threads in (1, 2))
    for _ in range(2):
        for run in (one, two):
            found.append(run.step(np.array([0]), run.encode(source, np.ones_like(source)))[0])
    for logits in found[1:]:
        np.testing.assert_allclose(logits, found[0], atol=1e-6)


@pytest.mark.parametrize("engine", ENGINES)
def test_what_the_bundle_cannot_take_is_refused(bundles: Bundles, engine: str) -> None:
    run = opened(bundles, "pre", engine)

    def encode(ids: list[int]) -> Any:
        return run.encode(np.array([ids]), np.ones((1, len(ids)), np.int64))

    with pytest.raises(InputError, match=r"^source token id out of range · got 40 · wanted 0 to 39 · use the"):
        encode([3, 40])
    with pytest.raises(InputError, match=r"^source token id out of range · got -1"):
        encode([-1])
    with pytest.raises(InputError, match=r"^sentence too long for the bundle · got 13 tokens · wanted at most 12 · "):
        encode([3] * 13)
    state = encode([3] * 12)
    with pytest.raises(InputError, match=r"^target token id out of range · got 30 · wanted 0 to 29"):
        run.step(np.array([30]), state)
    for _ in range(14):
        _, state = run.step(np.array([3]), state)
    with pytest.raises(InputError, match=r"^translation too long for the bundle · got step 15 · wanted at most 14 · "):
        run.step(np.array([3]), state)


def test_executorch_refuses_a_sentence_of_padding(bundles: Bundles) -> None:
    run = opened(bundles, "post", "executorch")
    with pytest.raises(InputError, match=r"^row 1: sentence without tokens · drop it before translating$"):
        run.encode(np.array([[3], [0]]), np.array([[1], [0]]))


def changed(bundle: Path, out: Path, **fields: Any) -> Path:
    """A copy of a bundle with other fields in bundle.json, under a valid manifest."""
    shutil.copytree(bundle, out)
    content = read_json(out / description.FILE) | fields
    (out / description.FILE).write_text(json.dumps(content))
    return sealed(out)


def sealed(out: Path) -> Path:
    manifest = read_json(out / artifact.MANIFEST)
    for name, entry in manifest["files"].items():
        entry.update(sha256=artifact.sha256(out / name), bytes=(out / name).stat().st_size)
    write_json(out / artifact.MANIFEST, manifest)
    return out


def test_another_version_of_executorch_is_refused(bundles: Bundles, tmp_path: Path) -> None:
    old = changed(bundles("post", "executorch"), tmp_path / "old", engine_version="1.3.9+cpu")
    with pytest.raises(ArtifactError, match=r"bundle for another version of ExecuTorch · got 1\.3\.9\+cpu · wanted "):
        open_bundle(old, 1)
    patch = changed(bundles("post", "executorch"), tmp_path / "patch", engine_version="1.4.99")
    open_bundle(patch, 1)


def test_another_version_of_onnx_runtime_is_mentioned(bundles: Bundles, tmp_path: Path) -> None:
    old = changed(bundles("post", "onnxruntime"), tmp_path / "old", engine_version="1.2.3")
    with pytest.warns(UserWarning, match=r"was verified with ONNX Runtime 1\.2\.3, here is 1\."):
        open_bundle(old, 1)


@pytest.mark.parametrize("engine", ENGINES)
def test_damaged_graphs_are_refused(bundles: Bundles, tmp_path: Path, engine: str) -> None:
    out = tmp_path / "cut"
    shutil.copytree(bundles("post", engine), out)
    file = out / description.read(out).graphs[tensors.ENCODE].file
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(ArtifactError, match=rf"damaged artifact · {file.name}: \d+ bytes, \d+ recorded"):
        open_bundle(out, 1)
    sealed(out)
    with pytest.raises(ArtifactError, match=rf"{file.name}: the engine does not accept this graph · got .+ · export"):
        open_bundle(out, 1).encode(np.array([[4, 1]]), np.ones((1, 2), np.int64))


def test_what_is_no_bundle_is_refused(bundles: Bundles, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"wrong kind of artifact · got model · wanted bundle"):
        open_bundle(bundles.models["post"], 1)
    with pytest.raises(InputError, match=r"^threads: too few threads · got 0"):
        open_bundle(bundles("post", "onnxruntime"), 0)
    odd = changed(bundles("post", "onnxruntime"), tmp_path / "odd", engine="tflite", max_source="many")
    with pytest.raises(ArtifactError, match=r"bundle\.json: does not describe a bundle · engine: .+; max_source: "):
        open_bundle(odd, 1)


def test_opening_and_running_warns_of_nothing(bundles: Bundles, capfd: pytest.CaptureFixture[str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for engine in ENGINES:
            run = opened(bundles, "post", engine)
            run.step(np.array([0]), run.encode(np.array([[3]]), np.array([[1]])))
    assert capfd.readouterr().out == ""
