"""Candidates, by hand; the artifact; and bundles that compute theirs only."""

from dataclasses import asdict, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from scipy import sparse

from tests.command import tprune
from tests.export.conftest import ENGINES, SETTINGS, Bundles, build
from tprune import artifact, delivery_config
from tprune.artifact import Artifact
from tprune.errors import ArtifactError, ExportError, InputError
from tprune.export import description, tensors
from tprune.export import lexicon as lexicons
from tprune.export import shortlist as shortlists
from tprune.export.bundle import export
from tprune.export.lexicon import Lexicon
from tprune.export.runtime import open_bundle
from tprune.export.shortlist import Shortlist
from tprune.export.verify import random_sentences, verify
from tprune.json_file import read_json
from tprune.model.decode import greedy, translate
from tprune.model.search import Search
from tprune.model.torch_engine import TorchEngine
from tprune.text.corpus import ParallelIds, open_corpus

TABLE = np.array([[0, 0, 0, 0, 0], [0, 0.1, 0.6, 0.3, 0], [0, 0.5, 0, 0.2, 0.3], [0, 0, 0, 0.05, 0.95]])
LEXICON = Lexicon(sparse.csr_array(TABLE), np.array([9, 1, 1, 8, 3], np.float32), (2,), "words")


def cut(**settings: Any) -> Shortlist:
    return lexicons.cut(LEXICON, delivery_config.Shortlist(**({"first": 1, "best": 2, "threshold": 0.1} | settings)))


@pytest.mark.parametrize(
    ("settings", "source", "wanted"),
    [
        ({}, [1], [0, 2, 3]),  # 0 most frequent, 2 special, 2 and 3 the best of 1
        ({}, [2], [0, 1, 2, 4]),
        ({}, [2, 3, 3], [0, 1, 2, 4]),  # 0.05 is too little
        ({}, [], [0, 2]),
        ({"first": 2}, [0], [0, 2, 3]),
        ({"first": 0, "best": 1}, [1, 2, 3], [1, 2, 4]),
        ({"best": 3, "threshold": 0.25}, [1, 2], [0, 1, 2, 3, 4]),
        ({"best": 0}, [1, 2, 3], [0, 2]),
        ({"best": 5, "threshold": 0}, [1], [0, 1, 2, 3]),
    ],
)
def test_candidates_by_hand(settings: dict[str, Any], source: list[int], wanted: list[int]) -> None:
    found = cut(**settings).candidates(np.array(source, np.int64))
    assert found.tolist() == wanted
    assert found.dtype == np.int64


def test_what_is_never_said_is_no_frequent_token() -> None:
    silent = replace(LEXICON, frequencies=np.array([9, 1, 1, 0, 3], np.float32))
    assert lexicons.cut(silent, delivery_config.Shortlist(first=5, best=0)).always.tolist() == [0, 1, 2, 4]


def test_coverage_by_hand() -> None:
    eos, sides = 0, [[1, 0], [2, 3, 0], [3, 0], [4, 1, 1, 2, 0], [2, 0], [0]]
    pairs = ParallelIds(np.concatenate(sides).astype(np.uint16), np.cumsum([0, *map(len, sides)]))
    # candidates {0 2 3}, {0 2 4}, {0 1 2 4}: held 2 of 2, 2 of 4, 0 of 0
    assert lexicons.coverage(cut(), pairs, eos) == lexicons.Coverage(4 / 6, 2 / 3, 10 / 3)


def test_a_file_holds_what_was_saved(tmp_path: Path) -> None:
    made, path = cut(), tmp_path / shortlists.FILE
    shortlists.save(made, path)
    again = shortlists.load(path)
    assert (again.target_vocabulary, again.words) == (5, "words")
    for name in shortlists.ARRAYS:
        before, after = getattr(made, name), getattr(again, name)
        assert (before.dtype, before.tolist()) == (after.dtype, after.tolist())
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(ArtifactError, match=r"shortlist\.safetensors: not a shortlist · got .+ · make it again with"):
        shortlists.load(path)
    with pytest.raises(ArtifactError, match=r"not a shortlist"):
        shortlists.load(tmp_path / "nowhere")


def test_it_is_widened_to_the_model_or_refused(tmp_path: Path) -> None:
    path = tmp_path / shortlists.FILE
    shortlists.save(cut(), path)
    wide = shortlists.fit(path, vocabulary=9, target_vocabulary=8, always=(7,))
    assert wide.candidates(np.array([1, 8])).tolist() == [0, 2, 3, 7]
    with pytest.raises(InputError, match=r"shortlist of another vocabulary · got source id 3 · wanted 0 to 2, as the"):
        shortlists.fit(path, 3, 8, ())
    with pytest.raises(InputError, match=r"shortlist of another vocabulary · got target id 4 · wanted 0 to 3, as the"):
        shortlists.fit(path, 9, 4, ())


def random_shortlist(vocabulary: int = 40, target: int = 30) -> Shortlist:
    chance = np.random.default_rng(5)
    offsets = np.cumsum([0, *chance.integers(0, 4, vocabulary)]).astype(np.int64)
    translations = chance.integers(2, target, offsets[-1]).astype(np.int32)
    return Shortlist(np.array([1, 4, 9], np.int32), offsets, translations, target, "words")


def made(out: Path, shortlist: Shortlist) -> Artifact:
    with artifact.create(out, "shortlist", config={}) as partial:
        shortlists.save(shortlist, partial / shortlists.FILE)
    return artifact.read(out)


class Held(TorchEngine):
    """The model with the logits of all tokens but some at -inf."""

    allowed: tuple[int, ...] = ()

    def step(self, tokens: Any, state: Any) -> Any:
        logits, state = super().step(tokens, state)
        barred = [token for token in range(logits.shape[1]) if token not in self.allowed]
        logits[:, barred] = -np.inf
        return logits, state


def held(name: str, shortlist: Shortlist, sources: list[list[int]]) -> Held:
    engine = Held(build(name))
    flat = [token for source in sources for token in source]
    own = [shortlist.translations[shortlist.offsets[token] : shortlist.offsets[token + 1]].tolist() for token in flat]
    engine.allowed = tuple({*shortlist.always.tolist(), *(token for tokens in own for token in tokens)})
    return engine


def together(path: Path, given: list[list[int]]) -> list[list[list[int]]]:
    """The sentences that share candidates: on ONNX Runtime those of a batch, on ExecuTorch each has its own."""
    return [given] if description.read(path).engine == "onnxruntime" else [[ids] for ids in given]


@pytest.fixture(scope="module", params=product(["pre", "post"], ENGINES), ids="-".join)
def shortlisted(request: pytest.FixtureRequest, bundles: Bundles) -> tuple[str, Path]:
    """A model with an output bias and few target tokens, and one without; and the bundle of each on each engine."""
    name, engine = request.param
    out = bundles.root / f"{name}-{engine}-shortlisted"
    given = made(bundles.root / f"{name}-{engine}.shortlist", random_shortlist())
    export(bundles.models[name], out, engine, SETTINGS, shortlist=given)
    return name, out


def sentences(*lengths: int) -> list[list[int]]:
    return [[*np.random.randint(2, 40, length - 1).tolist(), 1] for length in lengths]


@pytest.mark.parametrize("beams", [1, 4])
@pytest.mark.parametrize("lengths", [(1,), (7,), (12,), (3, 9, 1, 5)])
def test_translations_are_those_of_the_model_held_to_the_candidates(
    shortlisted: tuple[str, Path], lengths: tuple[int, ...], beams: int
) -> None:
    name, path = shortlisted
    run, search = open_bundle(path, 1), replace(Search(**description.read(path).search), beams=beams)
    for _ in range(5):
        given = sentences(*lengths)
        found = translate(run, given, search)
        parts = together(path, given)
        engines = [held(name, random_shortlist(), part) for part in parts]
        wanted = [translate(engine, part, search) for engine, part in zip(engines, parts, strict=True)]
        assert found == [ids for part in wanted for ids in part]
        assert {token for ids in found for token in ids} <= {token for engine in engines for token in engine.allowed}


def test_steps_give_the_logits_of_candidates_and_no_others(shortlisted: tuple[str, Path]) -> None:
    name, path = shortlisted
    run, given = open_bundle(path, 1), sentences(6)
    source = np.array(given)
    fed, _ = run.step(np.array([3]), run.encode(source, np.ones_like(source)))
    wanted, _ = (engine := held(name, random_shortlist(), given)).step(
        np.array([3]), engine.encode(source, np.ones_like(source))
    )
    assert np.array_equal(np.isinf(fed), np.isinf(wanted))
    assert np.isinf(fed).any()
    finite = np.isfinite(wanted)
    assert np.abs(fed[finite] - wanted[finite]).max() < 2e-5


@pytest.mark.parametrize(
    "changes", [{"banned": (0, 4, 9)}, {"forced_bos": 2}, {"forced_eos": 1}, {"max_new_tokens": 2}]
)
def test_other_searches_are_held_to_the_candidates_too(shortlisted: tuple[str, Path], changes: dict[str, Any]) -> None:
    name, path = shortlisted
    run, search = open_bundle(path, 1), replace(Search(**description.read(path).search), **changes)
    given = sentences(8, 8)
    source, wanted = np.array(given), []
    for part in together(path, given):
        wanted += greedy(held(name, random_shortlist(), part), np.array(part), np.ones_like(part), search)
    assert greedy(run, source, np.ones_like(source), search) == wanted


def test_the_weights_are_gathered_before_the_loop(shortlisted: tuple[str, Path]) -> None:
    _, path = shortlisted
    said = description.read(path)
    if said.engine == "executorch":
        gathered = {name for name in said.graphs[tensors.ENCODE].outputs if name.startswith("output_")}
        assert len(gathered) == (2 if said.target_vocabulary == 30 else 1)  # the weight, and the bias if any
        assert gathered < {*said.graphs[tensors.BUFFERED_STEP].inputs} & {*said.graphs[tensors.DECODE_STEP].inputs}
        return
    assert said.graphs[tensors.TRANSLATE].inputs == ("source", "source_mask", "candidates", "limits")
    graph = onnx.load(path / said.graphs[tensors.TRANSLATE].file).graph
    assert [value.name for value in graph.input] == list(said.graphs[tensors.TRANSLATE].inputs)
    (loop,) = (node for node in graph.node if node.op_type == "Loop")
    body = next(attribute.g for attribute in loop.attribute if attribute.name == "body")
    same = {node.output[0] for node in graph.node if node.op_type == "Reshape" and "candidates" in node.input}
    indices = {"candidates", *same}
    before = [node for node in graph.node if node.op_type == "Gather" and indices & set(node.input)]
    within = [node for node in body.node if node.op_type == "Gather" and indices & set(node.input)]
    assert len(before) == (3 if said.target_vocabulary == 30 else 2)  # weight, banned tokens, and the bias if any
    assert [node.input[0] for node in within] == ["candidates"]  # from candidate to token


def test_a_bundle_says_and_holds_its_shortlist(shortlisted: tuple[str, Path], bundles: Bundles) -> None:
    name, path = shortlisted
    engine = description.read(path).engine
    content, plain = (read_json(folder / "bundle.json") for folder in (path, bundles(name, engine)))
    assert content["shortlist"] == shortlists.FILE
    assert "shortlist" not in plain
    assert set(artifact.read(path).manifest["parents"]) == {"model", "shortlist"}
    search = Search(**description.read(path).search)
    assert search.eos in shortlists.load(path / shortlists.FILE).always


def test_a_difference_among_the_candidates_is_noticed(shortlisted: tuple[str, Path]) -> None:
    name, path = shortlisted
    said, run, model = description.read(path), open_bundle(path, 1), build(name)
    given, own = random_sentences(3, 40, 12), shortlists.load(path / shortlists.FILE)
    assert verify(model, run, said, given, own)["max_difference"] < 1e-4
    with pytest.raises(ExportError, match=r"the exported graphs differ from the model"):
        verify(model, run, said, given)  # the model without the shortlist
    with torch.no_grad():
        model.get_parameter("decoder.layers.0.ffn.fc2.bias")[0] += 0.05
    with pytest.raises(ExportError, match=r"the exported graphs differ from the model"):
        verify(model, run, said, given, own)


@pytest.mark.parametrize("engine", ENGINES)
def test_int8_is_close_to_the_model_and_leaves_the_candidates_weights_exact(
    engine: str, bundles: Bundles, tmp_path: Path
) -> None:
    out = tmp_path / "int8"
    given = made(tmp_path / "shortlist", random_shortlist())
    export(bundles.models["post"], out, engine, SETTINGS, precision="int8", shortlist=given)
    said = description.read(out)
    assert said.parity is not None
    assert 0 < said.parity["relative_error"] < 0.1
    if engine == "onnxruntime":
        step = onnx.load(out / said.graphs[tensors.DECODE_STEP].file).graph
        assert [node.input[1] for node in step.node if node.op_type == "MatMul"] == ["output_weight"]
    source = np.array(sentences(9))
    run, search = open_bundle(out, 1), Search(**said.search)
    found = greedy(run, source, np.ones_like(source), search)[0]
    assert found
    assert {*found} <= {*held("post", random_shortlist(), source.tolist()).allowed}


def test_no_sentence_has_more_candidates_than_memory_is_planned_for() -> None:
    found = random_shortlist()
    for tokens in (1, 5, 12):
        most = max(len(found.candidates(np.random.randint(0, 40, tokens))) for _ in range(50))
        assert most <= found.most(tokens) <= 30
    assert found.most(1) == 3 + 3
    assert found.most(40) == 30


def test_requests_that_make_no_sense_are_refused(bundles: Bundles, tmp_path: Path) -> None:
    given = made(tmp_path / "large", random_shortlist(target=90))
    with pytest.raises(
        InputError, match=r"shortlist\.safetensors: shortlist of another vocabulary · got target id \d+"
    ):
        export(bundles.models["post"], tmp_path / "out", "onnxruntime", SETTINGS, shortlist=given)
    assert not (tmp_path / "out").exists()


def test_the_command_learns_one_and_says_what_it_covers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = ["--set", "text.kind=synthetic", "--set", "text.sentences=400", "--set", "text.vocabulary=400"]
    assert tprune(monkeypatch, "corpus", "--out", tmp_path / "text", *text) == 0
    capsys.readouterr()
    size = ["--set", "shortlist.first=20", "--set", "shortlist.best=5"]
    assert tprune(monkeypatch, "shortlist", tmp_path / "text", "--out", tmp_path / "few", *size) == 0
    opened, found = open_corpus(tmp_path / "text"), shortlists.load(tmp_path / "few" / shortlists.FILE)
    covered = lexicons.coverage(found, opened.split("valid"), opened.tokenizer.eos_id)
    assert read_json(tmp_path / "few" / lexicons.COVERAGE) == asdict(covered)
    said = capsys.readouterr().out
    assert said.startswith(f"of the validation text: {covered.tokens:.1%} of the target tokens and ")
    assert said.splitlines()[-1] == str(tmp_path / "few")
    assert covered.tokens > 0.8
    assert artifact.read(tmp_path / "few", "shortlist").manifest["parents"].keys() == {"corpus"}
    assert {opened.tokenizer.eos_id, 2} <= set(found.always.tolist())
    lexicons.check_words(tmp_path / "few" / shortlists.FILE, opened.tokenizer)
    shortlists.save(replace(found, words="others"), tmp_path / "foreign")
    with pytest.raises(InputError, match=r"foreign: shortlist of another vocabulary · got ids of another tokenizer · "):
        lexicons.check_words(tmp_path / "foreign", opened.tokenizer)
