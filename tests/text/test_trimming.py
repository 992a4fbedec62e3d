"""Trimmed tokenizers: what is kept stays as it was, and no text is lost."""

import json
import unicodedata
from collections import Counter
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.artifacts import error_of
from tests.model.test_origin import m2m100, marian, nllb
from tprune.text import plain_tokenizer, synthetic, trimming, vocab
from tprune.text.vocab import Tokenizer

LINES = [line for pair in synthetic.splits(300, 1, "train", [])["train"] for line in (pair.source, pair.target)]
SOME = LINES[:80]
KINDS: tuple[Literal["unigram", "bpe"], ...] = ("unigram", "bpe")
OURS: dict[str, Tokenizer] = {kind: vocab.train(LINES, kind=kind, vocabulary=600) for kind in KINDS}
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\u2581"))


def pieces(words: Tokenizer, rows: list[list[int]]) -> list[list[str]]:
    return [words.backend.convert_ids_to_tokens(row) for row in rows]


def seen(words: Tokenizer, lines: list[str], minimum: int = 1) -> set[int]:
    counts = Counter(chain.from_iterable(words.encode(lines)))
    return {token for token, count in counts.items() if count >= minimum}


@pytest.fixture(scope="module", params=KINDS)
def both(request: pytest.FixtureRequest) -> tuple[Tokenizer, Tokenizer, list[int]]:
    """A tokenizer, itself trimmed to some of its text, and what is kept; the last tokens come first."""
    old = OURS[request.param]
    order = trimming.closure(old, seen(old, SOME))[::-1]
    return old, trimming.trimmed(old, order), order


def test_sentences_of_kept_tokens_have_the_same_pieces(both: tuple[Tokenizer, Tokenizer, list[int]]) -> None:
    old, new, order = both
    assert new.vocabulary_size == len(order) < old.vocabulary_size
    before, after = old.encode(SOME), new.encode(SOME)
    assert pieces(new, after) == pieces(old, before)
    assert [[order[token] for token in row] for row in after] == before
    assert new.decode(after) == SOME
    assert new.encode(new.decode(after)) == after
    assert pieces(new, [list(range(len(order)))]) == pieces(old, [order])


def test_special_tokens_move_along(both: tuple[Tokenizer, Tokenizer, list[int]]) -> None:
    old, new, order = both
    assert [order[token] for token in (new.pad_id, new.eos_id, new.decoder_start_id)] == [0, 1, 0]
    assert {order[token] for token in new.special_ids} == old.special_ids
    assert new.pad_id == len(order) - 1


@settings(deadline=None)
@given(texts=st.lists(TEXTS, max_size=4))
def test_no_text_is_lost_or_spelled_in_more_bytes(
    both: tuple[Tokenizer, Tokenizer, list[int]], texts: list[str]
) -> None:
    old, new, _ = both
    before, after = old.encode(texts), new.encode(texts)
    assert new.decode(after) == [unicodedata.normalize("NFC", text).strip() for text in texts]
    for was, now in zip(pieces(old, before), pieces(new, after), strict=True):
        assert "<unk>" not in now
        assert [piece for piece in now if piece in vocab.BYTES] == [piece for piece in was if piece in vocab.BYTES]


def test_text_of_dropped_pieces_is_spelled_in_others(both: tuple[Tokenizer, Tokenizer, list[int]]) -> None:
    old, new, order = both
    kept = set(order)
    changed = [line for line, row in zip(LINES, old.encode(LINES), strict=True) if not kept >= set(row)]
    assert changed
    assert new.decode(new.encode(changed)) == changed
    assert sum(map(len, new.encode(changed))) > sum(map(len, old.encode(changed)))


def test_a_trimmed_tokenizer_needs_no_transformers(
    both: tuple[Tokenizer, Tokenizer, list[int]], tmp_path: Path
) -> None:
    _, new, _ = both
    new.save(tmp_path)
    assert plain_tokenizer.is_plain(tmp_path)
    plain = plain_tokenizer.load(tmp_path)
    assert plain.encode(LINES) == new.encode(LINES)
    assert plain.vocabulary_size == new.vocabulary_size


def test_parts_of_kept_merges_stay_by_hand() -> None:
    words = OURS["bpe"]
    data = json.loads(words.backend.backend_tokenizer.to_str())["model"]
    longest = max((piece for piece in data["vocab"] if piece not in vocab.FIXED), key=len)
    kept = set(trimming.closure(words, [data["vocab"][longest]]))
    found = {longest}
    for left, right in reversed(data["merges"]):  # parts are merged before the whole
        if left + right in found:
            found |= {left, right}
    characters = {piece for piece in data["vocab"] if len(piece) == 1}
    assert kept == {data["vocab"][piece] for piece in found | characters} | set(range(len(vocab.FIXED)))
    assert len(found) > 3


def test_the_least_likely_piece_stays_for_the_score_of_unknown_characters() -> None:
    words = OURS["unigram"]
    scores = json.loads(words.backend.backend_tokenizer.to_str())["model"]["vocab"]
    least = min(range(len(scores)), key=lambda token: scores[token][1])
    assert least in trimming.closure(words, [])
    assert trimming.closure(trimming.trimmed(words, trimming.closure(words, [])), []) == list(
        range(len(trimming.closure(words, [])))
    )


@pytest.mark.filterwarnings("ignore:Recommended. pip install sacremoses")
@pytest.mark.parametrize(
    ("build", "got"),
    [(marian, "files or code of its own"), (m2m100, "files or code of its own"), (nllb, "files or code of its own")],
)
def test_other_tokenizers_are_refused(build: Callable[[Path], Any], got: str, tmp_path: Path) -> None:
    build(tmp_path).save_pretrained(tmp_path)
    said = error_of(trimming.write, tmp_path, tmp_path / "out", [0, 1, 2])
    assert said == (
        f"{tmp_path}: this tokenizer's vocabulary cannot be trimmed · got a tokenizer with {got} · wanted a "
        "tokenizer.json with a Unigram or BPE model, as `tprune corpus` makes it · leave the vocabulary as it is"
    )


@pytest.mark.parametrize(
    ("change", "got"),
    [
        ({"model": {"type": "WordLevel", "vocab": {}, "unk_token": "<unk>"}}, "WordLevel"),
        ({"post_processor": {"type": "ByteLevel"}}, "post-processor ByteLevel"),
        ({"added_tokens": [{"id": 600, "content": "<new>"}]}, "added tokens: <new>"),
    ],
)
def test_what_has_no_trimmed_form_is_refused(
    change: dict[str, Any], got: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    OURS["unigram"].save(tmp_path)
    file = tmp_path / trimming.FILE
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    monkeypatch.setattr(plain_tokenizer, "is_plain", lambda _folder: True)
    assert f"cannot be trimmed · got {got} ·" in error_of(trimming.write, tmp_path, tmp_path / "out", [0, 1, 2])


def test_special_tokens_cannot_go(tmp_path: Path) -> None:
    OURS["unigram"].save(tmp_path)
    said = error_of(trimming.write, tmp_path, tmp_path / "out", [0, 1])
    where = tmp_path / "tokenizer.json"
    assert said == f"{where}: the tokenizer needs a token that is not kept · got <unk> · keep the special tokens"
