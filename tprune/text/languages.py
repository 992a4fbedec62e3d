"""Languages as files, tokenizers and models call them: `de`, `deu_Latn`, `de_DE`."""

import re
from pathlib import Path
from typing import Any

from tprune.errors import InputError


def base(language: str | None) -> str | None:
    """The two-letter code where there is one: `zh` of `zho_Hans`, `zh_CN`, `zh-TW` and `cmn`."""
    if language is None:
        return None
    stem = re.split(r"[_-]", language.lower().strip("_"))[0]
    return TWO_LETTERS.get(stem, stem)


def codes(backend: Any) -> dict[str, int]:
    """A multilingual tokenizer's languages and their tokens' ids; NLLB's keeps them among its special tokens."""
    if not hasattr(backend, "src_lang"):
        return {}
    tokens = [token for token in backend.all_special_tokens if token[0].isalpha()]
    named: dict[str, int] | None = getattr(backend, "lang_code_to_id", None)
    return named or dict(zip(tokens, backend.convert_tokens_to_ids(tokens), strict=True))


def code(backend: Any, language: str | None, where: Path) -> str:
    """The tokenizer's own code for a language given as `de`, `de_DE` or `deu_Latn`.

    Raises:
        InputError: The tokenizer does not know it, or knows several that it could be.
    """
    known = codes(backend)
    meant = [name for name in known if language and (name == language or name.startswith(f"{language}_"))]
    if not meant and NLLB.get(str(language)) in known:
        meant = [NLLB[str(language)]]
    if len(meant) != 1:
        raise InputError(
            "the tokenizer does not know the language",
            where=where,
            got=language,
            wanted=", ".join(meant or sorted(known)[:5]) + " …",
            fix="set text.source and text.target to codes of this tokenizer",
        )
    return meant[0]


def require_direction(backend: Any, source: str | None, target: str | None, where: Path) -> None:
    """Refuse text for the other direction than that of a model of two languages; Marian's tokenizer says its own.

    Raises:
        InputError: The tokenizer's source is the text's target, and the reverse.
    """
    own = [str(getattr(backend, side, None) or "") for side in ("source_lang", "target_lang")]
    if all(own) and [*map(base, own)] == [base(target), base(source)] and source != target:
        raise InputError(
            "the model translates the other way",
            where=where,
            got=" to ".join(own),
            wanted=f"{source} to {target}",
            fix="give the model of that direction, or exchange text.source and text.target",
        )


NLLB = dict(
    entry.split()
    for entry in (
        *("ar arb_Arab", "cs ces_Latn", "de deu_Latn", "en eng_Latn", "es spa_Latn", "fr fra_Latn", "hi hin_Deva"),
        *("it ita_Latn", "ja jpn_Jpan", "ko kor_Hang", "nl nld_Latn", "pl pol_Latn", "pt por_Latn", "ru rus_Cyrl"),
        *("sv swe_Latn", "tr tur_Latn", "uk ukr_Cyrl", "zh zho_Hans"),
    )
)
"""NLLB's codes for the two-letter codes that file names carry."""

# Mandarin and Cantonese are written in the same signs as what `zh` stands for
TWO_LETTERS = {long.split("_")[0]: short for short, long in NLLB.items()} | {"cmn": "zh", "yue": "zh"}
