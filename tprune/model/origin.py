"""What is converted: a Hugging Face checkpoint, its model and its tokenizer."""

import difflib
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, RepositoryNotFoundError, RevisionNotFoundError
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer, PreTrainedModel

from tprune.errors import SHOWN, InputError, MachineError, ModelError
from tprune.model.checkpoint import quiet

TOKENIZER_FILES = ("tokenizer.json", "*.spm", "*.model", "vocab.json", "vocab.txt")
DOWNLOADED = ("*.json", "model*.safetensors", "*.spm", "*.model", "*.txt")


def local_directory(source: Path | str) -> Path:
    """The checkpoint's directory; one on the hub goes to Hugging Face's cache, pickles left out.

    Args:
        source: A directory, or a name on the hub, also as NAME@REVISION.

    Raises:
        InputError: Neither a directory nor a model on the hub.
        MachineError: The hub cannot be reached.
    """
    path = Path(source)
    if path.is_dir():
        return path
    name, _, revision = str(source).partition("@")
    if isinstance(source, Path) or name.count("/") > 1 or name.startswith((".", "/", "~")):
        raise InputError("no such model directory", where=source, fix="check the path")
    try:
        return Path(snapshot_download(name, revision=revision or None, allow_patterns=list(DOWNLOADED)))
    except (RepositoryNotFoundError, RevisionNotFoundError, HFValidationError) as error:
        raise InputError(
            "no such directory, nor such a model on the Hugging Face hub",
            where=source,
            got=str(error).partition("\n")[0],
            fix="check the name; a private or gated model needs `hf auth login`",
        ) from None
    except (HfHubHTTPError, OSError) as error:
        raise MachineError(
            "no such directory, and the Hugging Face hub cannot be reached",
            where=source,
            got=str(error).partition("\n")[0].removeprefix("Got: "),
            fix="check the path, or connect to the internet and try again",
        ) from None


def load_original(path: Path) -> PreTrainedModel:
    """Load the checkpoint's own model in float32; every weight has to come from its file.

    Raises:
        ModelError: Weights are missing, damaged or of other shapes than the configuration says.
    """
    try:
        with quiet():
            model, report = AutoModelForSeq2SeqLM.from_pretrained(
                path,
                use_safetensors=True,
                trust_remote_code=False,
                local_files_only=True,
                dtype=torch.float32,
                output_loading_info=True,
            )
    except Exception as error:  # a configuration can be wrong in as many ways as it has fields
        raise ModelError(
            "not a checkpoint that Hugging Face can load",
            where=path,
            got=f"{type(error).__name__}: {error}",
            fix="copy or download it again",
        ) from None
    if missing := sorted(report["missing_keys"]):
        raise ModelError(
            "weights are missing",
            where=path,
            got=f"none of {len(missing)}, such as {', '.join(missing[:SHOWN])}",
            fix="copy or download the checkpoint again",
        )
    return model


def load_tokenizer(path: Path, languages: tuple[str, str] | None = None) -> Any:
    """Load the checkpoint's tokenizer, set to these source and target languages.

    Raises:
        ModelError: There is none, or it does not load.
        InputError: It does not know one of the languages.
    """
    if not any(file for pattern in TOKENIZER_FILES for file in path.glob(pattern)):
        raise ModelError(
            "no tokenizer",
            where=path,
            wanted=" | ".join(TOKENIZER_FILES),
            fix="copy the tokenizer's files into the checkpoint's directory",
        )
    tokenizer = _tokenizer(path)
    if languages is None:
        return tokenizer
    for language in languages:
        language_token(tokenizer, language)
    return _tokenizer(path, src_lang=languages[0], tgt_lang=languages[1])


def language_token(tokenizer: Any, language: str) -> int:
    """Id of the token that stands for a language.

    Raises:
        InputError: The tokenizer does not know the language.
    """
    codes = getattr(tokenizer, "lang_code_to_id", None)
    if codes is None and hasattr(tokenizer, "src_lang"):  # NLLB's tokenizer keeps no such table
        tokens = [token for token in tokenizer.all_special_tokens if token[0].isalpha()]
        codes = dict(zip(tokens, tokenizer.convert_tokens_to_ids(tokens), strict=True))
    if not codes:
        raise InputError("the model has no language tokens", where="languages", got=language, fix="leave them out")
    if language not in codes:
        raise InputError(
            "the model does not know this language",
            where="languages",
            got=language,
            wanted=", ".join(difflib.get_close_matches(language, codes, 3) or sorted(codes)[:SHOWN]) + " ...",
            fix="give the model's own codes",
        )
    return int(codes[language])


def _tokenizer(path: Path, **languages: str) -> Any:
    try:
        with quiet():
            return AutoTokenizer.from_pretrained(path, trust_remote_code=False, local_files_only=True, **languages)
    except Exception as error:  # tokenizers fail in as many ways as there are kinds of them
        raise ModelError(
            "its tokenizer does not load",
            where=path,
            got=f"{type(error).__name__}: {error}",
            fix="copy or download the checkpoint again",
        ) from None
