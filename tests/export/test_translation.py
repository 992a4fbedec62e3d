"""The command `translate` and what it makes of bad lines and bad bundles."""

import io
import json
import os
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from tests.command import tprune
from tests.export.conftest import ENGINES, LONGEST, SENTENCES
from tests.export.test_runtime import sealed
from tprune import artifact
from tprune.delivery_config import Export
from tprune.errors import InputError
from tprune.export import description
from tprune.export.bundle import export, inputs
from tprune.export.runtime import open_bundle
from tprune.export.translation import Translator, Unfinished, translate_lines
from tprune.json_file import read_json, write_json
from tprune.model.decode import translate
from tprune.model.search import Search
from tprune.text import vocab


class Reads(io.BytesIO):
    """Gives what `write` gave, a piece at a time, as a pipe does."""

    def __init__(self, pieces: list[bytes]) -> None:
        super().__init__()
        self.pieces = pieces

    def read1(self, _size: int | None = -1) -> bytes:
        return self.pieces.pop(0) if self.pieces else b""


Run = Callable[..., tuple[int, list[str], list[str]]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]) -> Run:
    """Runs `tprune translate`; gives exit code, output lines and the lines on standard error that are tprune's."""

    def translate(bundle: Path, text: bytes, *options: object) -> tuple[int, list[str], list[str]]:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text)))
        code = tprune(monkeypatch, "translate", bundle, *options)
        out, err = capfdbinary.readouterr()
        assert b"Traceback" not in err
        said = [line for line in err.decode().splitlines() if not line.startswith("[")]  # ExecuTorch's own
        return code, out.decode().split("\n")[:-1], said

    return translate


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("options", [(), ("--beam", 2), ("--batch", 3)])
def test_lines_come_out_in_their_order_each_as_if_alone(
    made: Mapping[str, Path], run: Run, engine: str, options: tuple[object, ...]
) -> None:
    beams = 2 if "--beam" in options else 1
    alone = Translator(made[engine], beams=beams, batch=1)
    wanted = [alone(sentence) for sentence in SENTENCES * 3]
    assert len(set(wanted)) > 3
    code, found, said = run(made[engine], "\n".join(SENTENCES * 3).encode(), *options)
    assert (code, found) == (0, wanted)
    assert said == warned(
        [number for number, text in enumerate(wanted, 1) if isinstance(text, Unfinished)], len(wanted)
    )


def warned(cut: list[int], lines: int) -> list[str]:
    said = [f"warning: line {number}: the translation was cut off at its greatest length" for number in cut]
    if cut:
        said.append(
            f"{len(cut)} of {lines} translations cut off: export with a larger export.length_factor, "
            "export.length_extra or export.max_target"
        )
    return said


@pytest.mark.parametrize("engine", ENGINES)
def test_a_translation_that_is_cut_off_is_named_and_the_bundle_says_where(
    made: Mapping[str, Path], run: Run, tmp_path: Path, engine: str
) -> None:
    bundle = tmp_path / "short"
    settings = Export(max_source=LONGEST, max_target=40, parity_sentences=1, length_factor=0.0, length_extra=3)
    export(made[engine].parent / "model", bundle, engine, settings)
    tokenizer, search = vocab.Tokenizer.load(bundle), Search(**description.read(made[engine]).search)
    three = translate(
        open_bundle(made[engine], 1), tokenizer.encode(SENTENCES[:3]), replace(search, max_new_tokens=3), 1
    )
    cut = [number for number, ids in enumerate(three, 1) if len(ids) == 3]
    assert 0 < len(cut) < 3  # the others end by themselves
    code, found, said = run(bundle, "\n".join(SENTENCES[:3]).encode())
    assert code == 0
    assert found == tokenizer.decode(three)
    assert said == warned(cut, 3)


def test_a_bundle_that_does_not_know_the_rule_has_the_one_of_its_time(made: Mapping[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "bundle"
    shutil.copytree(made["onnxruntime"], out)
    said = read_json(out / description.FILE)
    search = {key: value for key, value in said["search"].items() if not key.startswith("length_") or "pen" in key}
    assert len(search) == len(said["search"]) - 2
    write_json(out / description.FILE, {**said, "search": search})
    assert Translator(sealed(out))(SENTENCES[0]) == Translator(made["onnxruntime"])(SENTENCES[0])
    assert inputs("onnxruntime", "fp32", Export()).keys() == {
        "engine", "engine_version", "precision", "max_source", "max_target", "parity_sentences"}  # fmt: skip
    assert inputs("onnxruntime", "fp32", Export(length_factor=2.0))["length_factor"] == 2.0


def test_a_bad_line_becomes_an_empty_one_and_the_others_are_translated(made: Mapping[str, Path], run: Run) -> None:
    bundle = made["onnxruntime"]
    good = Translator(bundle)(SENTENCES[0])
    long = " ".join(["dog"] * 60)
    tokens = len(vocab.Tokenizer.load(bundle).encode([long])[0])
    lines = [SENTENCES[0].encode(), b"", b"a \xff b", long.encode(), b" \t ", SENTENCES[0].encode() + b"\r", b"\xe4"]
    code, found, said = run(bundle, b"\n".join(lines))
    assert code == 1
    assert found == [good, "", "", "", "", good, ""]
    assert said == [
        "error: line 3: not UTF-8 · got byte 0xff · convert the text to UTF-8",
        f"error: line 4: sentence too long for the bundle · got {tokens} tokens · wanted at most {LONGEST}"
        " · split the sentence, or export with a larger export.max_source",
        "error: line 7: not UTF-8 · got byte 0xe4 · convert the text to UTF-8",
        "3 of 7 lines not translated; their lines in the output are empty",
    ]


def test_the_longest_sentence_passes_and_one_word_more_does_not(made: Mapping[str, Path]) -> None:
    translator = Translator(made["onnxruntime"])
    tokenizer = vocab.Tokenizer.load(made["onnxruntime"])
    sentence = "a"
    while len(tokenizer.encode([sentence])[0]) < LONGEST:
        sentence += " a"
    assert len(tokenizer.encode([sentence])[0]) == LONGEST
    assert translator(sentence)
    tokens = len(tokenizer.encode([sentence + " a"])[0])
    with pytest.raises(InputError, match=rf"got {tokens} tokens · wanted at most {LONGEST}"):
        translator(sentence + " a")


def test_no_line_waits_for_the_next_one(made: Mapping[str, Path]) -> None:
    pieces = [b"A dog", b" sees it.\nA cat se", b"es it.\n", b"A dog sees it.\nA dog sees it.\nThe", b" bird sees it."]
    lines = Reads(pieces)
    found = translate_lines(Translator(made["onnxruntime"]), lines)
    left = [len(lines.pieces) for _ in found]
    assert left == [3, 2, 1, 1, 0]


def test_a_translation_is_one_line_whatever_bytes_it_spells(
    made: Mapping[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    translator = Translator(made["onnxruntime"])
    monkeypatch.setattr(translator._tokenizer, "decode", lambda rows: ["a\nb\rc\u2028d\x85" for _ in rows])
    assert translator("A dog.") == "a b c d "


def test_a_tokenizer_that_does_not_fit_stops_at_once(made: Mapping[str, Path], run: Run, tmp_path: Path) -> None:
    out = tmp_path / "bundle"
    shutil.copytree(made["onnxruntime"], out)
    vocab.train([*SENTENCES, *(chr(0x4E00 + n) for n in range(80))], kind="unigram", vocabulary=500).save(out)
    code, found, said = run(sealed(out), "一丐丰\n".encode())
    assert (code, found, len(said)) == (1, [], 1)
    size = description.read(out).vocabulary
    assert "the tokenizer does not fit the graphs · got source token " in said[0]
    assert f"wanted 0 to {size - 1}, which the graphs know · export the bundle again" in said[0]


def test_tokens_that_the_tokenizer_lacks_stop_at_once(made: Mapping[str, Path], run: Run, tmp_path: Path) -> None:
    out = tmp_path / "bundle"
    shutil.copytree(made["onnxruntime"], out)
    vocab.train(["aa"], kind="unigram", vocabulary=263).save(out)
    code, _, said = run(sealed(out), b"\n".join(b"a " * n for n in range(1, 8)))
    assert (code, len(said)) == (1, 1)
    assert "got target token " in said[0] and "which the tokenizer knows" in said[0]


@pytest.mark.parametrize(
    ("engine", "file"),
    [
        *(("onnxruntime", name) for name in ("translate.onnx", "model.onnx.data", "tokenizer.json", "bundle.json")),
        ("executorch", "model.pte"),
    ],
)
def test_a_damaged_bundle_is_one_line(
    made: Mapping[str, Path], run: Run, tmp_path: Path, engine: str, file: str
) -> None:
    out = tmp_path / "bundle"
    shutil.copytree(made[engine], out)
    size = (out / file).stat().st_size
    data = bytearray((out / file).read_bytes())
    data[size // 2] ^= 255
    (out / file).write_bytes(data)
    assert_one_line(run(out, b"A dog.\n"), f"{file}: content changed")
    os.truncate(out / file, size // 2)
    assert_one_line(run(out, b"A dog.\n"), f"{file}: {size // 2} bytes, {size} recorded")
    (out / file).unlink()
    assert_one_line(run(out, b"A dog.\n"), f"{file}: missing")


@pytest.mark.parametrize(
    ("engine", "file"),
    [("onnxruntime", "translate.onnx"), ("onnxruntime", "model.onnx.data"), ("executorch", "model.pte")],
)
def test_a_cut_graph_under_a_manifest_that_fits_is_one_line(
    made: Mapping[str, Path], run: Run, tmp_path: Path, engine: str, file: str
) -> None:
    out = tmp_path / "bundle"
    shutil.copytree(made[engine], out)
    os.truncate(out / file, (out / file).stat().st_size // 2)
    assert_one_line(run(sealed(out), b"A dog.\n"), "the engine does not accept this graph")


def test_bundles_of_another_time_are_one_line(made: Mapping[str, Path], run: Run, tmp_path: Path) -> None:
    shutil.copytree(made["executorch"], tmp_path / "engine")
    said = tmp_path / "engine" / description.FILE
    said.write_text(json.dumps(read_json(said) | {"engine_version": "0.7.0"}))
    assert_one_line(
        run(sealed(tmp_path / "engine"), b"A dog.\n"), "bundle for another version of ExecuTorch · got 0.7.0"
    )
    shutil.copytree(made["onnxruntime"], tmp_path / "schema")
    manifest = read_json(tmp_path / "schema" / artifact.MANIFEST)
    write_json(tmp_path / "schema" / artifact.MANIFEST, manifest | {"schema": 99})
    assert_one_line(run(tmp_path / "schema", b"A dog.\n"), "manifest of an unknown schema · got 99 · wanted 1")


@pytest.mark.filterwarnings("default")
def test_an_older_onnx_bundle_is_mentioned_and_translated(
    made: Mapping[str, Path], run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "bundle"
    shutil.copytree(made["onnxruntime"], out)
    said = read_json(out / description.FILE)
    (out / description.FILE).write_text(json.dumps(said | {"engine_version": "1.2.3"}))
    code, found, heard = run(sealed(out), SENTENCES[0].encode())
    assert (code, found, len(heard)) == (0, [Translator(made["onnxruntime"])(SENTENCES[0])], 1)
    assert heard[0].startswith("warning: ") and "was verified with ONNX Runtime 1.2.3, here is " in heard[0]


@pytest.mark.parametrize("option", ["--beam", "--batch", "--threads"])
def test_numbers_below_one_are_refused(made: Mapping[str, Path], run: Run, option: str) -> None:
    code, _, said = run(made["onnxruntime"], b"", option, 0)
    assert code == 1
    assert len(said) == 1 and f"error: {option[2:]}: " in said[0] and "got 0 · wanted 1 or more" in said[0]


def assert_one_line(result: tuple[int, list[str], list[str]], part: str) -> None:
    code, found, said = result
    assert (code, found) == (1, [])
    assert len(said) == 1, said
    assert said[0].startswith("error: ") and part in said[0]
