"""CTranslate2: sentences to translations. Nothing in here needs PyTorch, as nothing in that engine does."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ctranslate2

if TYPE_CHECKING:
    from tprune.model.search import Search

COMPUTE = {"fp32": "float32", "int8": "int8_float32"}


def open_model(folder: Path, threads: int, precision: str) -> Any:
    """CTranslate2's translator.

    Args:
        folder: What `ct2_format.convert` wrote.
        threads: Threads of one operator.
        precision: fp32 or int8.
    """
    return ctranslate2.Translator(
        str(folder), device="cpu", intra_threads=threads, inter_threads=1, compute_type=COMPUTE[precision]
    )


def translate(
    translator: Any,
    sentences: Sequence[Sequence[int]],
    longest: int,
    banned: Sequence[int],
    batch_size: int = 0,
) -> list[list[int]]:
    """Greedy translations, without eos.

    Args:
        translator: What `open_model` gave.
        sentences: Source ids.
        longest: Greatest number of target tokens.
        banned: Tokens that never appear in a translation.
        batch_size: Sentences in a batch, which CTranslate2 makes of like length; 0: all in one.
    """
    found = translator.translate_batch(
        [[str(token) for token in source] for source in sentences],
        beam_size=1,
        max_batch_size=batch_size,
        min_decoding_length=0,
        max_decoding_length=longest,
        suppress_sequences=[[str(token)] for token in banned],
    )
    return [[int(token) for token in one.hypotheses[0]] for one in found]


def open_translator(
    folder: Path, threads: int, precision: str, search: "Search"
) -> Callable[[Sequence[int]], list[int]]:
    """A function from the ids of one sentence to those of its greedy translation, without eos.

    Args:
        folder: What `ct2_format.convert` wrote.
        threads: Threads of one operator.
        precision: fp32 or int8.
        search: Limits; the special tokens are in the model.
    """
    translator = open_model(folder, threads, precision)

    def translate_one(source: Sequence[int]) -> list[int]:
        return translate(translator, [source], search.max_length(len(source)), search.banned)[0]

    return translate_one
