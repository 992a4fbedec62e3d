"""A tokenizer that knows fewer tokens, and segments what is left as before.

Of our own kinds, Unigram and BPE in a `tokenizer.json`. Sentences whose tokens are all kept stay as they are:

- Unigram takes the best path of pieces; one of kept pieces stays the best among fewer paths. The least likely piece
  is kept, since the score of an unknown character hangs on it.
- BPE merges by rank; a merge whose result is in no kept piece had no part in them.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tprune.errors import InputError
from tprune.json_file import read_json
from tprune.text import plain_tokenizer, vocab
from tprune.text.vocab import BYTES, Tokenizer

FILE = "tokenizer.json"


def closure(tokenizer: Tokenizer, wanted: Collection[int]) -> list[int]:
    """Ids that have to stay so that the wanted ones do, rising.

    Besides them: special tokens, bytes and single characters, so that no text is spelled in unknowns or bytes that was
    not before; and all that a kept piece is merged from.

    Raises:
        InputError: The tokenizer cannot be trimmed.
    """
    with TemporaryDirectory() as folder:
        tokenizer.save(Path(folder))
        model = _read(Path(folder))["model"]
    pieces = _pieces(model)
    kept = {*wanted, *tokenizer.special_ids}
    kept |= {token for token, piece in enumerate(pieces) if len(piece) == 1 or piece in BYTES}
    if model["type"] == "Unigram":
        kept.add(min(range(len(pieces)), key=lambda token: model["vocab"][token][1]))
        return sorted(kept)
    parts: dict[int, set[int]] = {}
    for left, right in _merges(model):
        parts.setdefault(model["vocab"][left + right], set()).update((model["vocab"][left], model["vocab"][right]))
    waiting = list(kept)
    while waiting:
        new = parts.get(waiting.pop(), set()) - kept
        kept |= new
        waiting += new
    return sorted(kept)


def require_possible(folder: Path) -> None:
    """Refuse to trim the tokenizer in a folder, if it is of a kind that cannot be.

    Raises:
        InputError: It cannot be trimmed.
    """
    _read(folder)


def trimmed(tokenizer: Tokenizer, order: Sequence[int]) -> Tokenizer:
    """A tokenizer whose id i stands for the old id order[i]; other tokens are gone.

    Raises:
        InputError: The tokenizer cannot be trimmed, or needs a token that is not in `order`.
    """
    with TemporaryDirectory() as old, TemporaryDirectory() as new:
        tokenizer.save(Path(old))
        write(Path(old), Path(new), order)
        return Tokenizer.load(Path(new))


def write(source: Path, target: Path, order: Sequence[int]) -> None:
    """Write the trimmed form of the tokenizer in folder `source` to folder `target`; see `trimmed`."""
    data = _read(source)
    new = {old: token for token, old in enumerate(order)}
    pieces = _pieces(data["model"])
    special = [entry["id"] for entry in data["added_tokens"]]
    if lost := [pieces[token] for token in special if token not in new]:
        raise InputError(
            "the tokenizer needs a token that is not kept",
            where=source / FILE,
            got=", ".join(lost),
            fix="keep the special tokens",
        )
    model = data["model"]
    if model["type"] == "Unigram":
        model["vocab"] = [model["vocab"][token] for token in order]
        model["unk_id"] = new[model["unk_id"]]
    else:
        known = {pieces[token]: index for index, token in enumerate(order)}
        merges = [(left, right) for left, right in _merges(model) if {left, right, left + right} <= known.keys()]
        model["vocab"], model["merges"] = known, merges
    for entry in data["added_tokens"]:
        entry["id"] = new[entry["id"]]
    data["added_tokens"].sort(key=lambda entry: entry["id"])
    for entry in (data["post_processor"] or {}).get("special_tokens", {}).values():
        entry["ids"] = [new[token] for token in entry["ids"]]
    vocab.copy_files(source, target)
    # as `tokenizers` itself writes it, so that the file is no larger
    (target / FILE).write_text(json.dumps(data, indent=2, ensure_ascii=False), encoding="utf-8")


def _read(folder: Path) -> dict[str, Any]:
    """The tokenizer's data, if it is of a kind that can be trimmed."""
    if not plain_tokenizer.is_plain(folder) or vocab.files(folder) != [FILE, "tokenizer_config.json"]:
        raise _refused(folder, "a tokenizer with files or code of its own")
    data: dict[str, Any] = read_json(folder / FILE)
    model, post_processor = data["model"], data["post_processor"] or {"type": "TemplateProcessing"}
    if model["type"] not in ("Unigram", "BPE"):
        raise _refused(folder, model["type"])
    if post_processor["type"] != "TemplateProcessing":
        raise _refused(folder, f"post-processor {post_processor['type']}")
    if model.get("unk_id", model.get("unk_token")) is None:
        raise _refused(folder, "no unknown token")
    pieces = _pieces(model)
    foreign = [entry["content"] for entry in data["added_tokens"] if entry["content"] not in pieces[entry["id"] :][:1]]
    if foreign:
        raise _refused(folder, f"added tokens: {', '.join(foreign[:5])}")
    return data


def _pieces(model: Mapping[str, Any]) -> list[str]:
    if model["type"] == "Unigram":
        return [piece for piece, _ in model["vocab"]]
    return sorted(model["vocab"], key=model["vocab"].__getitem__)


def _merges(model: Mapping[str, Any]) -> list[tuple[str, str]]:
    # older files hold "left right" in one string
    pairs = (merge.split(" ") if isinstance(merge, str) else merge for merge in model["merges"])
    return [(left, right) for left, right in pairs]


def _refused(folder: Path, got: str) -> InputError:
    return InputError(
        "this tokenizer's vocabulary cannot be trimmed",
        where=folder,
        got=got,
        wanted="a tokenizer.json with a Unigram or BPE model, as `tprune corpus` makes it",
        fix="leave the vocabulary as it is",
    )
