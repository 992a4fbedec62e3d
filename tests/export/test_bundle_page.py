"""docs/bundle.md: its files, fields and tensors are those of bundles, and its programs translate."""

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from tests.conftest import ROOT
from tests.export.conftest import ENGINES, SENTENCES, Bundles
from tprune.export import description, shortlist, tensors
from tprune.export.runtime import open_bundle
from tprune.export.translation import Translator
from tprune.model.decode import one_by_one
from tprune.model.search import Search

PAGE = (ROOT / "docs" / "bundle.md").read_text(encoding="utf-8")


def names(part: str) -> set[str]:
    """Everything in code spans."""
    return set(re.findall(r"`([^`]+)`", part))


def section(title: str) -> str:
    return PAGE.split(f"## {title}\n")[1].split("\n## ")[0]


@pytest.fixture(scope="module")
def programs() -> dict[str, Callable[..., Any]]:
    room: dict[str, Any] = {}
    for name in ("one graph", "loop", "tokenizer"):
        (program,) = re.findall(rf"<!-- {name} -->\n```python\n(.*?)```\n<!-- /{name} -->", PAGE, flags=re.DOTALL)
        exec(program, room)
    return room


@pytest.mark.parametrize("name", ["pre", "post", "trimmed"])
def test_its_programs_translate_as_the_engine_does(
    bundles: Bundles, programs: Mapping[str, Callable[..., Any]], name: str
) -> None:
    path = bundles(name, "onnxruntime")
    search = Search(**description.read(path).search)
    alone = one_by_one(open_bundle(path, 1), search)
    for length in (1, 3, 11):
        ids = [*np.random.randint(2, 40, length).tolist(), search.eos]
        assert programs["translate"](path, ids) == programs["translate_by_steps"](path, ids) == alone(ids)


@pytest.mark.parametrize("changes", [{"forced_bos": 9, "forced_eos": 1}, {"banned": [0, 4, 5, 7]}, {"length_extra": 2}])
def test_its_loop_knows_forced_and_banned_tokens_and_the_limit(
    bundles: Bundles, programs: Mapping[str, Callable[..., Any]], tmp_path: Path, changes: dict[str, Any]
) -> None:
    path = bundles("post", "onnxruntime")
    for file in path.iterdir():
        (tmp_path / file.name).symlink_to(file)
    said = json.loads((path / description.FILE).read_text())
    (tmp_path / description.FILE).unlink()
    (tmp_path / description.FILE).write_text(json.dumps({**said, "search": {**said["search"], **changes}}))
    alone = one_by_one(open_bundle(path, 1), Search(**description.read(tmp_path).search))
    for length in (2, 6):
        ids = [*np.random.randint(2, 40, length).tolist(), 1]
        assert programs["translate_by_steps"](tmp_path, ids) == alone(ids)


def test_its_tokenizer_reads_and_writes_text(
    made: Mapping[str, Path], programs: Mapping[str, Callable[..., Any]]
) -> None:
    translator = Translator(made["onnxruntime"])
    assert [programs["translate_text"](made["onnxruntime"], text) for text in SENTENCES] == [
        translator(text) for text in SENTENCES
    ]


def test_the_tensors_are_those_of_the_graphs(bundles: Bundles) -> None:
    rows = {
        name: (names(inputs), names(outputs))
        for name, inputs, outputs in re.findall(r"^\| `(\w+)` \| (.*) \| (.*) \|$", section("Tensors"), re.MULTILINE)
    }
    path = bundles("post", "onnxruntime")  # of one layer, number 0
    shapes = description.read(path).decoder_shapes
    assert rows[tensors.ENCODE] == (set(tensors.encode_inputs(padded=True)), set(tensors.cross_names(shapes)))
    assert rows[tensors.DECODE_STEP] == (
        set(tensors.step_inputs(shapes, padded=True)),
        set(tensors.step_outputs(shapes)),
    )
    assert rows.keys() == description.read(path).graphs.keys()
    for name, (inputs, outputs) in rows.items():
        graph = onnxruntime.InferenceSession(path / f"{name}.onnx")
        assert ({one.name for one in graph.get_inputs()}, {one.name for one in graph.get_outputs()}) == (
            inputs,
            outputs,
        )
        types = {one.name: one.type for one in graph.get_inputs()}
        assert {types[one] for one in types if "_keys_" in one or "_values_" in one} <= {"tensor(float)"}
        assert {types[one] for one in types if "_keys_" not in one and "_values_" not in one} == {"tensor(int64)"}
    assert tensors.CANDIDATES in names(section("Tensors"))


@pytest.mark.parametrize("engine", ENGINES)
def test_the_files_and_fields_are_those_of_bundles(bundles: Bundles, made: Mapping[str, Path], engine: str) -> None:
    listed = names(PAGE.split("## bundle.json")[0])
    assert {file.name for file in made[engine].iterdir()} <= listed
    assert shortlist.FILE in listed
    said = json.loads((bundles("post", engine) / description.FILE).read_text())
    fields = names("\n".join(re.findall(r"^\| (`[^|]*) \|", section("bundle.json"), re.MULTILINE)))
    assert len(fields) > 10
    for field in fields:
        first, _, below = field.partition(".")
        assert first in said and (not below or below in said[first]), field
    assert set(said["graphs"]) <= names(PAGE)
