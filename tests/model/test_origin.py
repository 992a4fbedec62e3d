"""Whole conversions: directories in, artifacts out, and everything that can be wrong with a directory."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
import torch
from huggingface_hub.errors import LocalEntryNotFoundError, RepositoryNotFoundError
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import (
    AutoTokenizer,
    M2M100Tokenizer,
    MarianTokenizer,
    MBart50Tokenizer,
    MBartTokenizer,
    NllbTokenizer,
)

from tests.model.random_models import generated, sentences, theirs
from tprune import artifact
from tprune.errors import ArtifactError, InputError, MachineError, ModelError
from tprune.model import origin
from tprune.model.checkpoint import load
from tprune.model.convert import convert
from tprune.model.search import Search
from tprune.text.languages import codes

TEXT = [f"the cat number {number} eats a small fish in house {number * 7}" for number in range(200)]
SENTENCE = "the small cat eats fish 42"
SPECIAL = ["<s>", "<pad>", "</s>", "<unk>"]


def pieces(folder: Path, name: str) -> list[str]:
    """Train a small SentencePiece model `folder/name`: its pieces without special ones."""
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXT), model_prefix=str(folder / name), vocab_size=60, minloglevel=2
    )
    (folder / f"{name}.model").rename(folder / name)
    model = sentencepiece.SentencePieceProcessor(model_file=str(folder / name))
    found = [model.id_to_piece(index) for index in range(len(model))]
    return [piece for piece in found if piece not in SPECIAL]


def marian(folder: Path) -> Any:
    words = pieces(folder, "source.spm")
    pieces(folder, "target.spm")
    ids = {word: index for index, word in enumerate(["<s>", "<pad>", "</s>", "<unk>", *words])}
    (folder / "vocab.json").write_text(json.dumps(ids))
    return MarianTokenizer(
        *(str(folder / name) for name in ("source.spm", "target.spm", "vocab.json")), source_lang="en", target_lang="de"
    )


def m2m100(folder: Path) -> Any:
    words = pieces(folder, "spm.model")
    (folder / "vocab.json").write_text(json.dumps({word: index for index, word in enumerate([*SPECIAL, *words])}))
    return M2M100Tokenizer(str(folder / "vocab.json"), str(folder / "spm.model"))


def nllb(folder: Path) -> Any:
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.train_from_iterator(TEXT, trainers.BpeTrainer(vocab_size=80, special_tokens=SPECIAL, show_progress=False))
    bpe = json.loads(tokenizer.to_str())["model"]
    return NllbTokenizer(vocab=bpe["vocab"], merges=[tuple(merge) for merge in bpe["merges"]])


def mbart(kind: Any) -> Callable[[Path], Any]:
    def build(folder: Path) -> Any:
        return kind(vocab=[(word, -float(index)) for index, word in enumerate([*SPECIAL, *pieces(folder, "spm")])])

    return build


TOKENIZERS: dict[str, tuple[str, Callable[[Path], Any]]] = {
    "opus-mt": ("marian", marian),
    "m2m100": ("m2m_100", m2m100),
    "nllb": ("m2m_100", nllb),
    "mbart25": ("mbart", mbart(MBartTokenizer)),
    "mbart50": ("mbart", mbart(MBart50Tokenizer)),
}


def checkpoint(kind: str, folder: Path) -> Path:
    """A whole Hugging Face checkpoint in `folder/kind`."""
    family, build = TOKENIZERS[kind]
    (folder / "parts").mkdir()
    tokenizer = build(folder / "parts")
    path = folder / kind
    theirs(family, 1, vocab_size=max(len(tokenizer), tokenizer.vocab_size + 120)).save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


class UnknownError(RepositoryNotFoundError):
    """What the hub says of a name it does not know, without the response that the library wants with it."""

    def __init__(self, message: str) -> None:
        Exception.__init__(self, message)


@pytest.fixture
def opus_mt(tmp_path: Path) -> Path:
    return checkpoint("opus-mt", tmp_path)


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_model_and_tokenizer_come_through(kind: str, tmp_path: Path) -> None:
    source = checkpoint(kind, tmp_path)
    german = codes(AutoTokenizer.from_pretrained(source)).get({"nllb": "deu_Latn", "m2m100": "de"}.get(kind, "de_DE"))
    (source / "generation_config.json").unlink()
    _edit_config(source, forced_bos_token_id=german)  # models of many languages have to say one
    made = convert(str(source), tmp_path / "out")
    assert (made.kind, made.path) == ("model", tmp_path / "out")
    assert artifact.read(made.path) == made
    original, model = origin.load_original(source), load(made.path)
    ids = sentences(8)
    for beams in (1, 3):
        expected = generated(original, ids, num_beams=beams, max_new_tokens=9)
        assert generated(model, ids, num_beams=beams, max_new_tokens=9) == expected
    target = {"tgt_lang": "de"} if kind == "m2m100" else {}  # the only one to have no target language by itself
    before, after = (AutoTokenizer.from_pretrained(path, **target) for path in (source, made.path))
    assert type(before) is type(after)
    tokens = before(SENTENCE, text_target=SENTENCE)
    again = after(SENTENCE, text_target=SENTENCE)
    assert (tokens["input_ids"], tokens["labels"]) == (again["input_ids"], again["labels"])
    # M2M100's tokenizer does not take its languages for special tokens
    assert after.decode(again["labels"], skip_special_tokens=True).removeprefix("__de__ ") == SENTENCE


@pytest.mark.parametrize(
    ("kind", "languages", "key", "token"),
    [
        ("m2m100", ("en", "de"), "forced_bos_token_id", "__de__"),
        ("nllb", ("eng_Latn", "deu_Latn"), "forced_bos_token_id", "deu_Latn"),
        ("mbart25", ("en_XX", "de_DE"), "decoder_start_token_id", "de_DE"),
        ("mbart50", ("en_XX", "de_DE"), "forced_bos_token_id", "de_DE"),
    ],
)
def test_languages_are_set_for_good(
    kind: str, languages: tuple[str, str], key: str, token: str, tmp_path: Path
) -> None:
    made = convert(checkpoint(kind, tmp_path), tmp_path / "out", languages=languages)
    model, tokenizer = load(made.path), AutoTokenizer.from_pretrained(made.path)
    wanted = tokenizer.convert_tokens_to_ids(token)
    assert getattr(model.config, key) == getattr(model.generation_config, key) == wanted
    source = tokenizer.convert_ids_to_tokens(tokenizer(SENTENCE)["input_ids"])
    target = tokenizer.convert_ids_to_tokens(tokenizer(text_target=SENTENCE)["input_ids"])
    assert languages[0] in {piece.strip("_") for piece in source}
    assert token in target
    found = model.generate(torch.tensor([[5, 6, 2]]), max_new_tokens=4, do_sample=False)[0].tolist()
    assert wanted in found[:2]


@pytest.mark.parametrize("kind", ["m2m100", "nllb", "mbart25", "mbart50"])
def test_models_of_many_languages_want_two_of_them(kind: str, tmp_path: Path) -> None:
    source = checkpoint(kind, tmp_path)
    with pytest.raises(InputError) as raised:
        convert(source, tmp_path / "out")
    assert str(raised.value).startswith(
        f"{source}: the model translates between many languages, and begins with none of them by itself · wanted a "
        "source and a target language, such as "
    )
    assert str(raised.value).endswith(
        'name them with --languages SOURCE TARGET, in a recipe with languages = ["SOURCE", "TARGET"]'
    )
    assert not (tmp_path / "out").exists()


def test_settings_of_an_old_checkpoint_are_read_from_its_configuration(tmp_path: Path, opus_mt: Path) -> None:
    (opus_mt / "generation_config.json").unlink()
    _edit_config(
        opus_mt,
        bad_words_ids=[[1]],
        forced_eos_token_id=2,
        num_beams=6,
        max_length=512,
        static_position_embeddings=True,
    )
    model = load(convert(opus_mt, tmp_path / "out").path)
    settings = model.generation_config
    assert (settings.bad_words_ids, settings.forced_eos_token_id, settings.num_beams) == ([[1]], 2, 6)
    assert Search.of(model).banned == (1,)


def test_unknown_languages_are_refused(tmp_path: Path, opus_mt: Path) -> None:
    (tmp_path / "more").mkdir()
    multilingual = checkpoint("nllb", tmp_path / "more")
    with pytest.raises(InputError, match=r"not know this language · got deu_Latin · wanted deu_Latn, .* own codes"):
        convert(multilingual, tmp_path / "out", languages=("eng_Latn", "deu_Latin"))
    with pytest.raises(InputError, match="has no language tokens · got en · leave them out"):
        convert(opus_mt, tmp_path / "out", languages=("en", "de"))
    assert not (tmp_path / "out").exists()


def test_pickles_are_never_loaded(tmp_path: Path, opus_mt: Path) -> None:
    (opus_mt / "model.safetensors").unlink()
    torch.save({}, opus_mt / "pytorch_model.bin")
    with pytest.raises(ModelError) as raised:
        convert(opus_mt, tmp_path / "out")
    assert str(raised.value).startswith(
        f"{opus_mt}: no model.safetensors, and pickled weights are never loaded · got pytorch_model.bin · convert it on"
    )
    assert "save_pretrained" in str(raised.value)
    (opus_mt / "pytorch_model.bin").unlink()
    with pytest.raises(ModelError, match=r"no model\.safetensors · give the directory of a whole checkpoint"):
        convert(opus_mt, tmp_path / "out")


def test_a_hub_model_of_pickles_is_refused_with_the_same_advice(
    tmp_path: Path, opus_mt: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pickles themselves are not downloaded."""
    (opus_mt / "model.safetensors").unlink()
    monkeypatch.setattr(origin, "snapshot_download", lambda *_, **__: str(opus_mt))
    with pytest.raises(ModelError) as raised:
        convert("opus/mt", tmp_path / "out")
    said = str(raised.value)
    assert said.startswith(f"{opus_mt}: no model.safetensors, and pickled weights are never loaded · convert it on a")
    assert said.endswith(
        "on the Hugging Face hub a pull request of SFconvertbot often holds them: give NAME@refs/pr/NUMBER"
    )


def test_truncated_weights_are_named(tmp_path: Path, opus_mt: Path) -> None:
    weights = opus_mt / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(ModelError, match=r"model\.safetensors: truncated or damaged weights · got .* again"):
        convert(opus_mt, tmp_path / "out")


def test_missing_weights_are_not_made_up(tmp_path: Path, opus_mt: Path) -> None:
    _edit_config(opus_mt, encoder_layers=7)
    with pytest.raises(ModelError, match=r"weights are missing · got none of \d+, such as model\.encoder\.layers\.\d"):
        convert(opus_mt, tmp_path / "out")
    _edit_config(opus_mt, encoder_layers=1, d_model=48)
    with pytest.raises(ModelError, match="not a checkpoint that Hugging Face can load"):
        convert(opus_mt, tmp_path / "out")


def test_other_architectures_are_refused_before_their_weights(tmp_path: Path, opus_mt: Path) -> None:
    _edit_config(opus_mt, model_type="t5")
    (opus_mt / "model.safetensors").write_bytes(b"never read")
    with pytest.raises(ModelError, match=r"opus-mt: unsupported architecture · got model_type 't5' · wanted bart \|"):
        convert(opus_mt, tmp_path / "out")


def test_a_checkpoint_without_a_tokenizer_is_refused(tmp_path: Path, opus_mt: Path) -> None:
    (opus_mt / "vocab.json").write_text("{")
    with pytest.raises(ModelError, match="its tokenizer does not load · got JSONDecodeError"):
        convert(opus_mt, tmp_path / "out")
    for name in ("vocab.json", "source.spm", "target.spm"):
        (opus_mt / name).unlink()
    with pytest.raises(ModelError, match=r"opus-mt: no tokenizer · wanted tokenizer\.json \|"):
        convert(opus_mt, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_directories_that_are_no_checkpoints(tmp_path: Path) -> None:
    for missing in (tmp_path / "gone", str(tmp_path / "gone"), "./gone", "a/b/c"):
        with pytest.raises(InputError, match="no such model directory · check the path"):
            convert(missing, tmp_path / "out")
    with pytest.raises(ModelError, match=r"it has no config\.json"):
        convert(tmp_path, tmp_path / "out")
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ModelError, match="not valid JSON"):
        convert(tmp_path, tmp_path / "out")


def test_hub_names_fail_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def download(name: str, *, revision: str | None, allow_patterns: list[str]) -> str:
        asked.append((name, revision))
        assert not any(pattern.endswith((".bin", ".pt", ".py")) or pattern == "*" for pattern in allow_patterns)
        raise error

    monkeypatch.setattr(origin, "snapshot_download", download)
    error: Exception = LocalEntryNotFoundError("no connection\nand more lines")
    with pytest.raises(MachineError, match=r"^opus/mt: .* hub cannot be reached · got no connection · check the path"):
        convert("opus/mt", tmp_path / "out")
    error = UnknownError("404")
    with pytest.raises(InputError, match="nor such a model on the Hugging Face hub"):
        convert("opus/mt@refs/pr/3", tmp_path / "out")
    assert asked == [("opus/mt", None), ("opus/mt", "refs/pr/3")]


def test_an_artifact_is_replaced_by_force_only(tmp_path: Path, opus_mt: Path) -> None:
    first = convert(opus_mt, tmp_path / "out")
    with pytest.raises(ArtifactError, match="exists already"):
        convert(opus_mt, tmp_path / "out")
    assert convert(opus_mt, tmp_path / "out", force=True).identity == first.identity


def _edit_config(path: Path, **changes: Any) -> None:
    settings = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps(settings | changes))
