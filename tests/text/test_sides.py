"""Tokenizers whose source and target side differ: each side is encoded as its own, and decoded as the target."""

import json
from pathlib import Path
from typing import Literal

import pytest
import sentencepiece

from tests.artifacts import error_of
from tests.model.test_origin import SENTENCE, checkpoint
from tprune.config import Text
from tprune.text import synthetic
from tprune.text.corpus import open_corpus, prepare
from tprune.text.vocab import BYTES, Tokenizer, train

PAIRS = synthetic.splits(600, 1, "train", [])["train"]
SIDES = {"source": [pair.source for pair in PAIRS], "target": [pair.target for pair in PAIRS]}


@pytest.fixture(scope="module")
def opus_mt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Marian tokenizer whose English and German have different pieces."""
    from transformers import MarianTokenizer

    folder = tmp_path_factory.mktemp("opus-mt")
    words = ["</s>", "<unk>"]
    for side, lines in SIDES.items():
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(lines),
            model_prefix=str(folder / side),
            vocab_size=200,
            character_coverage=1.0,
            minloglevel=2,
        )
        (folder / f"{side}.model").rename(folder / f"{side}.spm")
        model = spm(folder, side)
        words += [piece for piece in map(model.id_to_piece, range(3, len(model))) if piece not in words]
    (folder / "vocab.json").write_text(json.dumps({word: index for index, word in enumerate([*words, "<pad>"])}))
    parts = (str(folder / name) for name in ("source.spm", "target.spm", "vocab.json"))
    MarianTokenizer(*parts, source_lang="en", target_lang="de").save_pretrained(folder / "model")
    return folder


def spm(folder: Path, side: str) -> sentencepiece.SentencePieceProcessor:
    return sentencepiece.SentencePieceProcessor(model_file=str(folder / f"{side}.spm"))


def test_each_side_of_opus_mt_has_its_own_pieces(opus_mt: Path, tmp_path: Path) -> None:
    words = json.loads((opus_mt / "vocab.json").read_text())
    tokenizer = Tokenizer.load(opus_mt / "model")
    # what SentencePiece itself makes of both, by the ids of vocab.json
    expected = {
        side: [
            [words.get(piece, words["<unk>"]) for piece in spm(opus_mt, side).encode(line, out_type=str)]
            + [words["</s>"]]
            for line in lines
        ]
        for side, lines in SIDES.items()
    }
    assert tokenizer.encode(SIDES["source"], side="source") == expected["source"]
    assert tokenizer.encode(SIDES["target"], side="target") == expected["target"]
    assert tokenizer.encode(SIDES["target"], side="source") != expected["target"]
    assert tokenizer.decode(expected["target"]) == SIDES["target"]
    folder = tmp_path / "text"
    folder.mkdir()
    for name, part in (("train", slice(50, 600)), ("valid", slice(25)), ("test", slice(25, 50))):
        for side, language in (("source", "en"), ("target", "de")):
            (folder / f"{name}.{language}").write_bytes("".join(f"{line}\n" for line in SIDES[side][part]).encode())
    made = open_corpus(prepare(Text(folder=str(folder)), tmp_path / "corpus", tokenizer=opus_mt / "model"))
    split = made.split("train")
    assert len(split) == 550
    for number in range(550):
        assert [side.tolist() for side in split[number]] == [expected[side][50 + number] for side in SIDES]


@pytest.mark.parametrize("kind", ["m2m100", "nllb", "mbart25", "mbart50"])
def test_no_language_token_stays_in_the_text(kind: str, tmp_path: Path) -> None:
    tokenizer = Tokenizer.load(checkpoint(kind, tmp_path), source="en", target="de")
    german, english = (
        tokenizer.backend.convert_tokens_to_ids(code)
        for code in {"m2m100": ("__de__", "__en__"), "nllb": ("deu_Latn", "eng_Latn")}.get(kind, ("de_DE", "en_XX"))
    )
    assert german in (tokenizer.forced_first_id, tokenizer.decoder_start_id)
    [source], [target] = tokenizer.encode([SENTENCE]), tokenizer.encode([SENTENCE], side="target")
    assert english in source
    assert english not in target
    text = [token for token in target if token not in (german, tokenizer.eos_id)]
    # what a search gives: start, forced token, text, end, padding; and whatever a bad model may write in between
    generated = [tokenizer.decoder_start_id, german, *text, tokenizer.eos_id, *[tokenizer.pad_id] * 3]
    assert tokenizer.decode([generated, text, [german], []]) == [SENTENCE, SENTENCE, "", ""]
    assert tokenizer.decode([[german, *text[:3], english, german, *text[3:], tokenizer.eos_id]]) == [SENTENCE]
    assert tokenizer.decode([source]) == [SENTENCE]


@pytest.mark.parametrize("kind", ["unigram", "bpe"])
def test_signs_outside_the_alphabet_are_their_bytes(kind: Literal["unigram", "bpe"]) -> None:
    ours = train(SIDES["target"], kind=kind, vocabulary=500)
    [ids] = ours.encode(["漢💡"])
    assert ids[-1 - len("漢💡".encode()) :] == [*(3 + byte for byte in "漢💡".encode()), ours.eos_id]
    pieces = ours.backend.convert_ids_to_tokens(ids)
    assert pieces[-8:-1] == [BYTES[byte] for byte in "漢💡".encode()]
    # a search may end within a sign: only that run of bytes is lost
    [ids] = ours.encode(["Der Hund 漢"])
    assert ours.decode([ids[:-2]]) == ["Der Hund \ufffd\ufffd"]


def test_a_model_of_the_other_direction_is_refused(opus_mt: Path) -> None:
    for source, target in (("en", "de"), ("eng_Latn", "deu_Latn"), ("en", "en"), (None, None), ("de", "fr")):
        Tokenizer.load(opus_mt / "model", source=source, target=target)
    assert error_of(Tokenizer.load, opus_mt / "model", source="de_DE", target="en") == (
        f"{opus_mt / 'model'}: the model translates the other way · got en to de · wanted de_DE to en · "
        "give the model of that direction, or exchange text.source and text.target"
    )
