"""A corpus is opened for the models whose tokenizer made it, and for no others."""

from pathlib import Path
from typing import Any

import pytest

from tests.artifacts import error_of
from tests.model.test_origin import checkpoint as original
from tests.text.folders import text
from tprune import artifact
from tprune.artifact import Artifact
from tprune.learn.compatibility import open_for
from tprune.model import checkpoint
from tprune.model.convert import convert
from tprune.model.shape import dense_config
from tprune.model.transformer import TPruneForConditionalGeneration
from tprune.text.corpus import TOKENIZER, prepare
from tprune.text.vocab import Tokenizer

SIZE: dict[str, Any] = {"d_model": 8, "heads": 2, "ffn": 8, "encoder_layers": 1, "decoder_layers": 1}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("compatibility")


@pytest.fixture(scope="module")
def corpus(folder: Path) -> Artifact:
    return prepare(text(folder / "text"), folder / "corpus")


def model(out: Path, words: Tokenizer | None, **changes: Any) -> Artifact:
    """A small model for a tokenizer, which goes along."""
    fitting = {"vocab_size": words.vocabulary_size if words else 330, "max_positions": 64}
    made = TPruneForConditionalGeneration(dense_config(**(SIZE | fitting | changes)))
    with artifact.create(out, "model", config={}) as partial:
        checkpoint.save(made, partial)
        if words is not None:
            words.save(partial)
    return artifact.read(out, "model")


def test_the_tokenizers_own_model(corpus: Artifact, tmp_path: Path) -> None:
    words = Tokenizer.load(corpus.path / TOKENIZER)
    dense, small = model(tmp_path / "dense", words), model(tmp_path / "small", words, d_model=4)
    assert open_for(corpus, small, dense).path == corpus.path
    assert open_for(corpus, model(tmp_path / "bare", None, vocab_size=words.vocabulary_size + 1)).path == corpus.path


def test_the_same_tokens_in_other_files(corpus: Artifact, tmp_path: Path) -> None:
    words = Tokenizer.load(corpus.path / TOKENIZER)
    words.backend.model_max_length = 17
    other = model(tmp_path / "model", words)
    assert (other.path / "tokenizer_config.json").read_text() != (
        corpus.path / TOKENIZER / "tokenizer_config.json"
    ).read_text()
    assert open_for(corpus, other).path == corpus.path


def test_another_vocabulary_of_the_same_size(folder: Path, corpus: Artifact, tmp_path: Path) -> None:
    words = Tokenizer.load(prepare(text(folder / "text", tokenizer="bpe"), tmp_path / "bpe").path / TOKENIZER)
    size = Tokenizer.load(corpus.path / TOKENIZER).vocabulary_size
    other = model(tmp_path / "model", words, vocab_size=max(size, words.vocabulary_size))
    said = error_of(open_for, corpus, other)
    assert said.startswith(
        f"{corpus.path}: the corpus was not tokenized for the model {other.path} · got {size} tokens, "
    )
    assert f"number 259 is {words.backend.convert_ids_to_tokens(259)!r} · " in said
    assert said.endswith(
        f"make the corpus with `tprune corpus --tokenizer {other.path}`; after `tprune prune --vocabulary`, which "
        "writes OUT.trimmed, give OUT.trimmed/corpus, and OUT.trimmed/dense as the teacher"
    )


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"pad_token_id": 3}, "padding is token 0, the model's 3"),
        ({"eos_token_id": 2}, "eos is token 1, the model's 2"),
        ({"vocab_size": 290}, "297 tokens, the model knows 290"),
    ],
)
def test_other_special_tokens_or_too_few(
    corpus: Artifact, tmp_path: Path, changes: dict[str, int], problem: str
) -> None:
    said = error_of(open_for, corpus, model(tmp_path / "model", None, **changes))
    assert f"not tokenized for the model {tmp_path / 'model'} · {problem} · make the corpus with" in said


def test_a_teacher_that_says_other_tokens(corpus: Artifact, tmp_path: Path) -> None:
    words = Tokenizer.load(corpus.path / TOKENIZER)
    dense, small = model(tmp_path / "dense", words), model(tmp_path / "small", words, output_vocab_size=290)
    assert error_of(open_for, corpus, small, dense) == (
        f"{small.path} and {dense.path}: student and teacher do not choose among the same tokens · got 290 tokens and "
        "297 tokens · wanted equally many · after `tprune prune --vocabulary`, which writes OUT.trimmed, give "
        "OUT.trimmed/dense as the teacher"
    )


def test_a_model_with_too_few_positions(corpus: Artifact, tmp_path: Path) -> None:
    said = error_of(open_for, corpus, model(tmp_path / "model", None, max_positions=4))
    assert said.startswith(f"{corpus.path}: training sentences longer than the model has positions for · got up to ")


@pytest.mark.parametrize("kind", ["nllb", "m2m100", "mbart25", "mbart50"])
def test_languages(kind: str, tmp_path: Path) -> None:
    pairs = {"nllb": ("eng_Latn", "deu_Latn"), "m2m100": ("en", "de")}.get(kind, ("en_XX", "de_DE"))
    made = convert(original(kind, tmp_path), tmp_path / "model", languages=pairs)
    config = made.path / "config.json"  # random models are small, and these tokenizers spell
    config.write_text(config.read_text().replace('"max_positions": 32', '"max_positions": 500'))
    settings = text(tmp_path / "text", max_tokens=500)
    for split in ("train", "valid", "test"):
        for known, called in (("en", "it"), ("de", "fr")):
            copy = (tmp_path / "text" / f"{split}.{known}").read_bytes()
            (tmp_path / "text" / f"{split}.{called}").write_bytes(copy)

    def tokenized(**languages: str) -> Artifact:
        changed = settings.model_copy(update=languages)
        return prepare(changed, tmp_path / "corpus", tokenizer=made.path, force=True)

    assert "translates into another language than the corpus" in error_of(open_for, tokenized(target="fr"), made)
    assert "reads another language than the corpus is in" in error_of(open_for, tokenized(source="it"), made)
    assert open_for(tokenized(), made).tokenizer.vocabulary_size > 0
