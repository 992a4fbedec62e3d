import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tprune.errors import InputError
from tprune.text import plain_tokenizer, vocab

SENTENCES = [f"The {animal} sees {number} cats." for animal in ("dog", "bird", "fox", "Übermaß") for number in range(9)]


@pytest.fixture(scope="module", params=["unigram", "bpe"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out: Path = tmp_path_factory.mktemp(request.param)
    vocab.train(SENTENCES, kind=request.param, vocabulary=340).save(out)
    return out


@given(
    texts=st.lists(st.text() | st.sampled_from(["</s>", "<pad> a", "<0x41>", "a\nb", " x  y ", *SENTENCES]), min_size=1)
)
def test_it_encodes_and_decodes_as_transformers_does(folder: Path, texts: list[str]) -> None:
    plain, full = plain_tokenizer.load(folder), vocab.Tokenizer.load(folder)
    assert isinstance(plain, plain_tokenizer.PlainTokenizer)
    assert plain.vocabulary_size == full.vocabulary_size
    ids = full.encode(texts)
    assert plain.encode(texts) == ids
    assert plain.decode(ids) == full.decode(ids)
    assert plain.decode([row[:-1] for row in ids]) == full.decode([row[:-1] for row in ids])  # may cut a sign's bytes


@pytest.mark.parametrize(
    "changes",
    [
        {"tokenizer_class": "NllbTokenizer"},
        {"clean_up_tokenization_spaces": True},
        {"extra_special_tokens": ["<x>"]},
        {"eos_token": {"content": "</s>"}},
        {"unk_token": "<nowhere>"},
    ],
)
def test_what_is_more_than_its_file_says_is_left_to_transformers(
    folder: Path, tmp_path: Path, changes: dict[str, object]
) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    config = tmp_path / "tokenizer_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | changes))
    assert plain_tokenizer._plain(folder) is not None
    assert plain_tokenizer._plain(tmp_path) is None


def test_a_damaged_tokenizer_is_named(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "tokenizer_config.json").write_bytes((folder / "tokenizer_config.json").read_bytes())
    (tmp_path / "tokenizer.json").write_bytes((folder / "tokenizer.json").read_bytes()[:500])
    with pytest.raises(InputError, match=r"cannot read the tokenizer"):
        plain_tokenizer.load(tmp_path)
    with pytest.raises(InputError, match=r"no such tokenizer"):
        plain_tokenizer.load(tmp_path / "none")


def test_it_needs_neither_torch_nor_transformers(folder: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from tprune.text import plain_tokenizer;"
        "plain_tokenizer.load(Path(sys.argv[1])).encode(['a']); import tprune.export.translation;"
        "import tprune.export.engine_ort; print({'torch', 'transformers'} & sys.modules.keys())"
    )
    found = subprocess.run([sys.executable, "-c", program, folder], check=True, capture_output=True, text=True)
    assert found.stdout == "set()\n"
