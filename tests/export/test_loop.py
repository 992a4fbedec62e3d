"""The one graph of a greedy translation finds what the search over steps finds."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
import onnxruntime
import pytest

from tests.export.conftest import MODELS, Bundles, batch, build
from tprune.export import description, loop, tensors
from tprune.export.runtime import open_bundle
from tprune.model.decode import greedy, greedy_by_steps, length_limits
from tprune.model.search import Search
from tprune.model.torch_engine import TorchEngine


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("lengths", [[1], [7], [3, 9, 1, 5], [12, 12]])
def test_it_finds_what_the_steps_find(bundles: Bundles, name: str, lengths: list[int]) -> None:
    path = bundles(name, "onnxruntime")
    run, search = open_bundle(path, 1), Search(**description.read(path).search)
    for _ in range(5):
        source, mask = batch(lengths)
        found = greedy(run, source, mask, search)
        assert found == greedy_by_steps(run, source, mask, search)
        assert found == greedy_by_steps(TorchEngine(build(name)), source, mask, search)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(
    "changes",
    [
        {"banned": ()},
        {"banned": (0, 3, 4, 5, 6, 7, 8, 9, 10)},
        {"forced_bos": 7},
        {"forced_eos": 1},
        {"forced_bos": 5, "forced_eos": 1, "banned": (2,), "eos": 1, "pad": 1},
        {"start": 11, "eos": 2, "pad": 3},
    ],
)
def test_it_bans_and_forces_what_the_settings_say(
    bundles: Bundles, name: str, changes: dict[str, Any], tmp_path: Path
) -> None:
    path, model = bundles(name, "onnxruntime"), build(name)
    said = description.read(path)
    search = replace(Search(**said.search), **changes)
    encode, step = (onnx.load(path / said.graphs[graph].file) for graph in (tensors.ENCODE, tensors.DECODE_STEP))
    joined = loop.translate_graph(encode, step, said.decoder_shapes, search, said.target_vocabulary)
    onnx.checker.check_model(joined, full_check=True)
    onnx.save(joined, tmp_path / "t.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "t.onnx", providers=["CPUExecutionProvider"])
    for _ in range(5):
        source, mask = batch([6, 2, 11])
        limits = length_limits(mask, search)
        rows = session.run(None, {"source": source, "source_mask": mask, "limits": limits})[0]
        wanted = greedy_by_steps(TorchEngine(model), source, mask, search)
        for row, limit, ids in zip(rows.tolist(), limits.tolist(), wanted, strict=True):
            ended = row[:limit]
            assert (ended[: ended.index(search.eos)] if search.eos in ended else ended) == ids


def test_a_search_with_other_tokens_goes_step_by_step(bundles: Bundles) -> None:
    path = bundles("post", "onnxruntime")
    run, search = open_bundle(path, 1), Search(**description.read(path).search)
    source, mask = batch([5, 3])
    for changes in ({"banned": (0, 4, 5)}, {"forced_bos": 9}, {"max_new_tokens": 3}):
        changed = replace(search, **changes)
        assert greedy(run, source, mask, changed) == greedy_by_steps(TorchEngine(build("post")), source, mask, changed)


def test_all_graphs_share_one_file_of_weights(bundles: Bundles) -> None:
    path = bundles("post", "onnxruntime")
    seen: dict[str, set[tuple[str, str]]] = {}
    for graph in description.read(path).graphs.values():
        for weight in onnx.load(path / graph.file, load_external_data=False).graph.initializer:
            where = {entry.key: entry.value for entry in weight.external_data}
            if where:
                assert where["location"] == "model.onnx.data"
                seen.setdefault(weight.name.removeprefix(loop.BODY), set()).add((where["offset"], where["length"]))
    assert seen
    assert all(len(places) == 1 for places in seen.values()), "a weight lies in the file more than once"
    assert int(max(offset for places in seen.values() for offset, _ in places)) % 4096 == 0
