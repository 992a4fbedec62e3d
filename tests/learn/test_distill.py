"""Distilled corpora: what the teacher says stands there, what it cannot say does not, and a kill costs a chunk."""

import itertools
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.artifacts import error_of
from tests.command import tprune
from tests.sparsity.small_models import config, model_of
from tests.text.folders import TRAIN, text
from tprune import artifact, recovery
from tprune.artifact import Artifact
from tprune.config import Distill, Text
from tprune.learn import distill
from tprune.model import checkpoint
from tprune.model.engine import Ids, Logits
from tprune.model.search import Search
from tprune.model.torch_engine import TorchEngine
from tprune.model.transformer import TPruneForConditionalGeneration
from tprune.text import trimmed_corpus
from tprune.text.corpus import Corpus, open_corpus, prepare

SETTINGS = Distill(beam=2, batch=7)
KINDS = ("other", "same", "empty", "endless")


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    folder = tmp_path_factory.mktemp("original")
    return prepare(text(folder / "text"), folder / "corpus")


class Scripted:
    """An engine that knows its translations by heart: of every source one of four kinds."""

    def __init__(self, corpus: Corpus) -> None:
        self.vocabulary, self.eos = corpus.tokenizer.vocabulary_size, corpus.tokenizer.eos_id
        self.encoded = 0
        self.wanted: dict[tuple[int, ...], list[int]] = {}
        self.kinds: list[str] = []
        pairs = corpus.split("train")
        for index, kind in zip(range(len(pairs)), itertools.cycle(KINDS), strict=False):
            source, target = (side.tolist() for side in pairs[index])
            answers = {"other": [7, 9, 7], "same": target[:-1], "empty": [], "endless": [8] * 200}
            self.wanted[tuple(source)] = answers[kind]
            self.kinds.append(kind)

    def encode(self, source: Ids, mask: Ids) -> Any:
        self.encoded += len(source)
        rows = [tuple(row[seen == 1].tolist()) for row, seen in zip(source, mask, strict=True)]
        return [self.wanted[row] for row in rows], 0

    def step(self, tokens: Ids, state: Any) -> tuple[Logits, Any]:
        answers, place = state
        logits = np.full((len(tokens), self.vocabulary), -20, dtype=np.float32)
        for row, answer in enumerate(answers):
            logits[row, [*answer, self.eos][min(place, len(answer))]] = 20
        return logits, (answers, place + 1)

    def reorder(self, state: Any, rows: Ids) -> Any:
        return [state[0][row] for row in rows], state[1]


def search_of(corpus: Corpus, **changes: Any) -> Search:
    words = corpus.tokenizer
    return replace(Search(words.decoder_start_id, words.eos_id, words.pad_id, 64, banned=(words.pad_id,)), **changes)


def write(original: Artifact, out: Path, settings: Distill = SETTINGS, engine: Any = None, **changes: Any) -> Artifact:
    corpus = open_corpus(original)
    with artifact.create(out, "corpus", config=distill.inputs(original, settings)) as folder:
        distill.write(
            folder, engine or Scripted(corpus), search_of(corpus, **changes), original, settings, lambda _: None
        )
    return artifact.read(out)


def sides(made: Artifact) -> list[tuple[list[int], list[int]]]:
    split = open_corpus(made).split("train")
    return [(source.tolist(), target.tolist()) for source, target in (split[index] for index in range(len(split)))]


@pytest.mark.parametrize("mix", [False, True])
def test_targets_are_the_teachers_where_it_said_something_else(original: Artifact, tmp_path: Path, mix: bool) -> None:
    made = write(original, tmp_path / "made", SETTINGS.model_copy(update={"mix": mix}))
    before, eos = sides(original), open_corpus(original).tokenizer.eos_id
    kinds = [kind for _, kind in zip(TRAIN, itertools.cycle(KINDS), strict=False)]
    other = [(source, [7, 9, 7, eos]) for (source, _), kind in zip(before, kinds, strict=True) if kind == "other"]
    replaced = [
        (source, [7, 9, 7, eos] if kind == "other" else target)
        for (source, target), kind in zip(before, kinds, strict=True)
    ]
    assert sides(made) == (before + other if mix else replaced)
    report = json.loads((made.path / distill.REPORT).read_text())
    assert {kind: report[kind] for kind in ("pairs", "empty", "unfinished", "same", "written")} == {
        "pairs": 60, "empty": 15, "unfinished": 15, "same": 15, "written": 75 if mix else 60}  # fmt: skip
    means = [sum(len(target) for _, target in pairs) / 60 for pairs in (before, replaced)]
    assert report["target_tokens"] == pytest.approx(means)


def test_everything_but_the_training_pairs_is_as_it_was(original: Artifact, tmp_path: Path) -> None:
    made = write(original, tmp_path / "made")
    old, new = open_corpus(original), open_corpus(made)
    assert new.raw("valid") == old.raw("valid")
    assert new.raw("test") == old.raw("test")
    assert (new.splits, new.source, new.target) == (old.splits, old.source, old.target)
    for name in ("valid", "test"):
        assert np.array_equal(new.split(name).ids, old.split(name).ids)
    assert new.tokenizer.decode([[7, 9]]) == old.tokenizer.decode([[7, 9]])
    said = dict(made.manifest["config"])
    assert said.pop("distill") == {"beam": 2, "length_penalty": 1.0, "mix": True, "batch": 7}
    assert said == {**original.manifest["config"], "folder": Path(original.manifest["config"]["folder"]).name}


def test_a_forced_end_at_the_bound_counts_as_unfinished(original: Artifact, tmp_path: Path) -> None:
    made = write(original, tmp_path / "made", forced_eos=open_corpus(original).tokenizer.eos_id)
    assert json.loads((made.path / distill.REPORT).read_text())["unfinished"] == 15


def test_translations_are_those_of_generate(original: Artifact, tmp_path: Path) -> None:
    teacher, corpus = teacher_of(original), open_corpus(original)
    pairs, search = corpus.split("train"), Search.of(teacher, beams=3, length_penalty=0.8)
    found = distill.hypotheses(TorchEngine(teacher), pairs, search, 8, tmp_path, lambda _: None)
    for index in (0, 17, 59):
        source = torch.tensor(pairs[index][0].astype(np.int64))[None]
        expected = teacher.generate(
            source, num_beams=3, length_penalty=0.8, do_sample=False, max_new_tokens=search.max_length(source.shape[1]),
            bad_words_ids=[[corpus.tokenizer.pad_id]],
        )[0, 1:].tolist()  # fmt: skip
        kept = list(itertools.takewhile(lambda token: token != corpus.tokenizer.eos_id, expected))
        assert found[index] == kept


def teacher_of(original: Artifact) -> TPruneForConditionalGeneration:
    words, shapes = open_corpus(original).tokenizer, config()
    shapes.vocab_size, shapes.pad_token_id = words.vocabulary_size, words.pad_id
    shapes.eos_token_id, shapes.decoder_start_token_id = words.eos_id, words.decoder_start_id
    return model_of(shapes)


def test_sources_that_trimming_made_longer_are_translated(original: Artifact, tmp_path: Path) -> None:
    longest = max(len(source) for source, _ in sides(original))
    corpus, said = open_corpus(original), {**original.manifest["config"], "max_tokens": longest}
    order = trimmed_corpus.choose([corpus], minimum=50).read
    with artifact.create(tmp_path / "trimmed", "corpus", config=said) as folder:
        trimmed_corpus.prepare(corpus, folder, order, len(order))
    trimmed = artifact.read(tmp_path / "trimmed")
    assert longest < max(len(source) for source, _ in sides(trimmed)) <= search_of(corpus).limit
    made = write(trimmed, tmp_path / "made")
    report = json.loads((made.path / distill.REPORT).read_text())
    assert {kind: report[kind] for kind in ("pairs", "empty")} == {"pairs": 60, "empty": 15}
    eos = order.index(corpus.tokenizer.eos_id)
    assert sides(made)[60:] == [(source, [7, 9, 7, eos]) for source, _ in sides(trimmed)[::4]]


class PowerError(Exception):
    """The power goes off."""


def test_a_kill_costs_no_finished_chunk(original: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distill, "CHUNK", 16)  # 60 sentences: 16 + 16 + 16 + 12
    expected = write(original, tmp_path / "undisturbed")

    class Failing(Scripted):
        def encode(self, source: Ids, mask: Ids) -> Any:
            if self.encoded >= 32:
                raise PowerError
            return super().encode(source, mask)

    out, corpus = tmp_path / "made", open_corpus(original)
    with pytest.raises(PowerError):
        write(original, out, engine=Failing(corpus))
    again = Scripted(corpus)
    made = write(original, out, engine=again)
    assert again.encoded == 60 - 32
    assert made.identity == expected.identity


def test_the_stage_makes_a_corpus_to_train_on(original: Artifact, tmp_path: Path) -> None:
    with artifact.create(tmp_path / "teacher", "model", config={}) as folder:
        checkpoint.save(teacher_of(original), folder)
    stage = recovery.distill(tmp_path / "made", artifact.read(tmp_path / "teacher"), original, SETTINGS)
    made = stage.make(False)
    assert made.kind == "corpus"
    assert stage.is_current()
    assert set(made.manifest["parents"]) == {"teacher", "corpus"}
    on = recovery.distill(
        tmp_path / "made", artifact.read(tmp_path / "teacher"), original, SETTINGS.model_copy(update={"on": True})
    )
    assert on.is_current()  # whether a recipe uses it changes nothing in it


def test_a_distilled_corpus_is_not_distilled_again(original: Artifact, tmp_path: Path) -> None:
    made = write(original, tmp_path / "made")
    assert "this corpus is distilled already" in error_of(distill.inputs, made, SETTINGS)


def test_the_verb_says_what_became_of_the_pairs(
    original: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with artifact.create(tmp_path / "teacher", "model", config={}) as folder:
        checkpoint.save(teacher_of(original), folder)
    arguments = ("distill", tmp_path / "teacher", original.path, "--out", tmp_path / "made")
    assert tprune(monkeypatch, *arguments, "--set", "distill.beam=1") == 0
    report = json.loads((tmp_path / "made" / distill.REPORT).read_text())
    said, path = capsys.readouterr().out.splitlines()
    assert said == (
        f"60 sources translated, {report['same']} as in the corpus; {report['empty']} empty and "
        f"{report['unfinished']} unfinished translations replaced by the original; {report['written']} pairs"
    )
    assert path == str(tmp_path / "made")
    assert len(open_corpus(artifact.read(tmp_path / "made")).split("train")) == report["written"]


def test_where_the_text_lies_makes_nothing_stale(original: Artifact, tmp_path: Path) -> None:
    config = Text.model_validate({key: value for key, value in original.manifest["config"].items() if key != "files"})
    shutil.copytree(str(config.folder), tmp_path / "text")
    moved = prepare(config.model_copy(update={"folder": str(tmp_path / "text")}), tmp_path / "corpus")
    assert moved.fingerprint != original.fingerprint
    first, second = (recovery.distill(tmp_path / "out", original, text, SETTINGS) for text in (original, moved))
    assert first.fingerprint == second.fingerprint
