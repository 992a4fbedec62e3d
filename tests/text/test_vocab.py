"""Vocabularies: nothing is lost, the same text gives the same one, every family's tokenizer fits in."""

import subprocess
import sys
import unicodedata
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer, BartTokenizer, MBart50Tokenizer, MBartTokenizer

from tests.model.test_origin import SENTENCE, SPECIAL, TEXT, m2m100, marian, mbart, nllb
from tprune.artifact import sha256
from tprune.errors import InputError
from tprune.text import synthetic, vocab
from tprune.text.vocab import Tokenizer

LINES = [line for pair in synthetic.splits(300, 1, "train", [])["train"] for line in (pair.source, pair.target)]
KINDS: tuple[Literal["unigram", "bpe"], ...] = ("unigram", "bpe")
SIDES: tuple[vocab.Side, ...] = ("source", "target")
OURS: dict[str, Tokenizer] = {kind: vocab.train(LINES, kind=kind, vocabulary=600) for kind in KINDS}
COMMON = "".join(chr(0x4E00 + sign) for sign in range(60))
RARE = "".join(chr(0x6000 + sign) for sign in range(3000))
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\u2581"))


def rare(kind: Literal["unigram", "bpe"]) -> Tokenizer:
    """Trained on a few signs that stand everywhere, and thousands that stand there once."""
    lines = [COMMON] * 3000 + [RARE[start : start + 10] for start in range(0, 3000, 10)]
    return vocab.train(lines, kind=kind, vocabulary=600)


@pytest.mark.parametrize("kind", KINDS)
class TestOurs:
    def test_fixed_ids(self, kind: str) -> None:
        ours = OURS[kind]
        assert (ours.pad_id, ours.eos_id, ours.decoder_start_id, ours.forced_first_id) == (0, 1, 0, None)
        assert ours.vocabulary_size == 600
        pieces = ours.backend.convert_ids_to_tokens(list(range(600)))
        assert pieces[:4] == ["<pad>", "</s>", "<unk>", "<0x00>"]
        assert pieces[258] == "<0xFF>"
        assert len(set(pieces)) == 600

    def test_sentences_come_back_in_fewer_tokens_than_characters(self, kind: str) -> None:
        ids = OURS[kind].encode(LINES)
        assert OURS[kind].decode(ids) == LINES
        assert all(row[-1] == 1 and min(row[:-1]) > 258 for row in ids)
        assert sum(map(len, ids)) < sum(map(len, LINES)) / 2
        assert OURS[kind].encode(LINES, side="target") == ids

    @settings(deadline=None)
    @given(texts=st.lists(TEXTS, max_size=4))
    def test_no_text_is_lost(self, kind: str, texts: list[str]) -> None:
        ids = OURS[kind].encode(texts)
        assert OURS[kind].decode(ids) == [unicodedata.normalize("NFC", text).strip() for text in texts]
        assert all(token > 2 for row in ids for token in row[:-1])

    @pytest.mark.parametrize(
        "text", ["</s>", "a <pad>b", "<unk><0x41>", "<0xE6>", "x<", "two  spaces", "漢字 and ü\u0308"]
    )
    def test_text_that_looks_like_a_token_is_text(self, kind: str, text: str) -> None:
        ids = OURS[kind].encode([text])
        assert OURS[kind].decode(ids) == [text]
        assert min(ids[0][:-1]) > 2

    def test_nfc_only(self, kind: str) -> None:
        assert OURS[kind].decode(OURS[kind].encode(["Ko\u0308ln ﬁ ² Ａ"])) == ["Köln ﬁ ² Ａ"]

    def test_transformers_loads_what_is_saved(self, kind: str, tmp_path: Path) -> None:
        OURS[kind].save(tmp_path / "saved")
        assert {path.name for path in (tmp_path / "saved").iterdir()} == {"tokenizer.json", "tokenizer_config.json"}
        lines = [*LINES, "</s> <pad>", "漢字"]
        theirs = AutoTokenizer.from_pretrained(tmp_path / "saved")
        assert theirs(lines)["input_ids"] == OURS[kind].encode(lines)
        for path in (tmp_path / "saved", tmp_path / "saved" / "tokenizer.json"):
            again = Tokenizer.load(path)
            assert again.encode(lines) == OURS[kind].encode(lines)
            assert again.decode(again.encode(lines)) == lines

    def test_large_alphabet(self, kind: Literal["unigram", "bpe"]) -> None:
        learned = rare(kind)
        assert learned.vocabulary_size <= 600
        assert learned.decode(learned.encode([RARE])) == [RARE]
        assert set(COMMON) <= set(learned.backend.get_vocab())
        # as many of 3000 equally rare signs as half of the 341 pieces can hold
        assert len(set(RARE) & set(learned.backend.get_vocab())) == 341 // 2 - len(COMMON)

    def test_too_small(self, kind: Literal["unigram", "bpe"]) -> None:
        with pytest.raises(InputError, match=r"^text.vocabulary: vocabulary too small for the text · got 300 · wanted"):
            vocab.train(LINES, kind=kind, vocabulary=300)


def bart(folder: Path) -> Any:
    letters = [*sorted(set("".join(TEXT)) - {" "}), "Ġ"]
    return BartTokenizer(vocab={word: index for index, word in enumerate([*SPECIAL, *letters])}, merges=[])


def test_another_process_learns_the_same(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from tests.text.test_vocab import OURS, rare; "
        "[OURS[kind].save(Path(sys.argv[1], kind)) for kind in OURS]; "
        "[rare(kind).save(Path(sys.argv[1], 'rare', kind)) for kind in OURS]"
    )
    subprocess.run([sys.executable, "-c", program, tmp_path / "there"], check=True, timeout=120)
    for kind in KINDS:
        OURS[kind].save(tmp_path / "here" / kind)
        rare(kind).save(tmp_path / "here" / "rare" / kind)
    files = [path.relative_to(tmp_path / "here") for path in (tmp_path / "here").rglob("*.json")]
    assert len(files) == 8
    for name in files:
        assert sha256(tmp_path / "here" / name) == sha256(tmp_path / "there" / name)


# family -> builder, languages given, tokens behind which the decoder starts and every target begins
FAMILIES: dict[str, tuple[Any, tuple[str | None, str | None], str, str | None]] = {
    "marian": (marian, (None, None), "<pad>", None),
    "bart": (bart, (None, None), "</s>", "<s>"),
    "m2m100": (m2m100, ("en", "de"), "</s>", "__de__"),
    "nllb": (nllb, ("en", "deu_Latn"), "</s>", "deu_Latn"),
    "nllb, two letters": (nllb, ("en", "de"), "</s>", "deu_Latn"),
    "mbart25": (mbart(MBartTokenizer), ("en", "de"), "de_DE", None),
    "mbart50": (mbart(MBart50Tokenizer), ("en_XX", "de_DE"), "</s>", "de_DE"),
}


@pytest.mark.filterwarnings("ignore:Recommended. pip install sacremoses")
@pytest.mark.parametrize("family", FAMILIES)
def test_tokenizers_of_checkpoints(family: str, tmp_path: Path) -> None:
    build, (source, target), start, first = FAMILIES[family]
    (tmp_path / "parts").mkdir()
    theirs = build(tmp_path / "parts")
    theirs.save_pretrained(tmp_path / "model")
    loaded = Tokenizer.load(tmp_path / "model", source=source, target=target)
    assert loaded.backend.convert_ids_to_tokens(loaded.decoder_start_id) == start
    found = None if loaded.forced_first_id is None else loaded.backend.convert_ids_to_tokens(loaded.forced_first_id)
    assert found == first
    for side in SIDES:
        [ids] = loaded.encode([SENTENCE], side=side)
        assert loaded.eos_id in ids[-2:]
        assert max(ids) < loaded.vocabulary_size
    assert ids[-1] == loaded.eos_id
    assert loaded.decode([ids, [loaded.decoder_start_id, *ids, loaded.pad_id]]) == [SENTENCE, SENTENCE]
    loaded.save(tmp_path / "saved")
    again = Tokenizer.load(tmp_path / "saved")
    for side in SIDES:
        assert again.encode([SENTENCE], side=side) == loaded.encode([SENTENCE], side=side)
    assert (again.decoder_start_id, again.forced_first_id) == (loaded.decoder_start_id, loaded.forced_first_id)


def test_unknown_language(tmp_path: Path) -> None:
    nllb(tmp_path).save_pretrained(tmp_path / "model")
    with pytest.raises(
        InputError, match=r"does not know the language · got xx · wanted .*ace_Arab.* · set text.source"
    ):
        Tokenizer.load(tmp_path / "model", source="en", target="xx")
    with pytest.raises(InputError, match=r"got zho · wanted zho_Hans, zho_Hant"):
        Tokenizer.load(tmp_path / "model", source="en", target="zho")


def test_no_tokenizer(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="none: no such tokenizer · wanted a folder"):
        Tokenizer.load(tmp_path / "none")
    with pytest.raises(InputError, match=r"no tokenizer here · wanted tokenizer.json .* give a model's folder"):
        Tokenizer.load(tmp_path)
    OURS["bpe"].save(tmp_path / "cut")
    whole = (tmp_path / "cut" / "tokenizer.json").read_text()
    (tmp_path / "cut" / "tokenizer.json").write_text(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="cut: cannot read the tokenizer"):
        Tokenizer.load(tmp_path / "cut")


def test_a_language_models_tokenizer_is_refused(tmp_path: Path) -> None:
    OURS["bpe"].save(tmp_path / "other")
    path = tmp_path / "other" / "tokenizer_config.json"
    path.write_text(path.read_text().replace('"pad_token": "<pad>",', ""))
    with pytest.raises(InputError, match=r"not the tokenizer of a translation model · got pad None, eos </s>"):
        Tokenizer.load(tmp_path / "other")


def test_only_the_tokenizers_files_are_copied(tmp_path: Path) -> None:
    OURS["bpe"].save(tmp_path / "model")
    (tmp_path / "model" / "model.safetensors").write_bytes(b"weights")
    (tmp_path / "model" / "source.spm").write_bytes(b"pieces")
    (tmp_path / "copy").mkdir()
    names = ["source.spm", "tokenizer.json", "tokenizer_config.json"]
    assert vocab.files(tmp_path / "model") == names
    assert vocab.copy_files(tmp_path / "model", tmp_path / "copy") == names
    assert {path.name: path.read_bytes() for path in (tmp_path / "copy").iterdir()} == {
        name: (tmp_path / "model" / name).read_bytes() for name in names
    }
