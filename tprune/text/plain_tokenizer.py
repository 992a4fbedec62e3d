"""The tokenizer of a bundle, without transformers where its files allow it: seconds sooner at work.

What `tprune.text.vocab` makes is a `tokenizer.json` and the names of its special tokens, and nothing else has any
part in it. The tokenizers of other families, with languages and code of their own, are left to transformers.
"""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

PLAIN = ("TokenizersBackend", "PreTrainedTokenizerFast")  # classes that do nothing but what `tokenizer.json` says
SPECIAL = {"eos_token", "pad_token", "unk_token", "bos_token"}
SETTINGS = SPECIAL | {"backend", "is_local", "local_files_only", "model_max_length", "tokenizer_class"}


class SentenceTokenizer(Protocol):
    """From source sentences to ids, and from target ids to sentences."""

    @property
    def vocabulary_size(self) -> int:
        """Number of ids."""
        ...

    def encode(self, sentences: Sequence[str]) -> list[list[int]]:
        """Token ids of each source sentence."""
        ...

    def decode(self, ids: Iterable[Sequence[int]]) -> list[str]:
        """Text of each sequence of target ids, without special tokens."""
        ...


class PlainTokenizer:
    """A `tokenizer.json` with special tokens, which never appear in a decoded sentence.

    Args:
        backend: Tokenizer of the package `tokenizers`.
        special: Contents of the special tokens.
    """

    def __init__(self, backend: Any, special: Iterable[str]) -> None:
        self._backend = backend
        self._hidden = {backend.token_to_id(token) for token in special}
        self.vocabulary_size: int = backend.get_vocab_size()

    def encode(self, sentences: Sequence[str]) -> list[list[int]]:
        """Token ids of each source sentence."""
        return [encoding.ids for encoding in self._backend.encode_batch(list(sentences))]

    def decode(self, ids: Iterable[Sequence[int]]) -> list[str]:
        """Text of each sequence of target ids, without special tokens."""
        return [
            self._backend.decode(
                [token for token in map(int, row) if token not in self._hidden], skip_special_tokens=False
            ).strip()
            for row in ids
        ]


def load(folder: Path) -> SentenceTokenizer:
    """Read the tokenizer of a bundle.

    Raises:
        InputError: No tokenizer there, or damaged.
    """
    plain = _plain(folder)
    if plain is not None:
        return plain
    from tprune.text.vocab import Tokenizer

    return Tokenizer.load(folder)


def is_plain(folder: Path) -> bool:
    """Whether a folder's `tokenizer.json` and the names of its special tokens are the whole tokenizer."""
    return _plain(folder) is not None


def _plain(folder: Path) -> PlainTokenizer | None:
    """None where transformers would do anything besides, or where the files are damaged and it has to say so."""
    try:
        said = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
        split_special = said.pop("split_special_tokens", False)
        if said.pop("clean_up_tokenization_spaces", False) or said["tokenizer_class"] not in PLAIN:
            return None
        special = [said[name] for name in SPECIAL & said.keys()]
        if not (said.keys() <= SETTINGS and all(isinstance(token, str) for token in special)):
            return None
        from tokenizers import Tokenizer

        backend = Tokenizer.from_file(str(folder / "tokenizer.json"))
    except Exception:  # the parser's share no base class
        return None
    if backend.truncation or backend.padding or None in map(backend.token_to_id, special):
        return None
    backend.encode_special_tokens = split_special
    return PlainTokenizer(backend, special)
