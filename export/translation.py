"""From sentences to sentences with a bundle: tokenizer, engine and search in one place."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import numpy as np

from tprune.errors import InputError
from tprune.export import description
from tprune.export.runtime import open_bundle
from tprune.model.decode import beam, greedy
from tprune.model.search import Search
from tprune.text.vocab import Tokenizer


class Translator:
    """A bundle ready to translate.

    Args:
        bundle: The bundle's directory.
        beams: Beam size; 1 is greedy.
        threads: Threads of the engine.

    Raises:
        ArtifactError: No bundle, damaged, or for another version of the engine.
        MachineError: The engine is not installed.
    """

    def __init__(self, bundle: Path, *, beams: int = 1, threads: int = 1) -> None:
        self._engine = open_bundle(bundle, threads)
        self._search = replace(Search(**description.read(bundle).search), beams=beams)
        self._tokenizer = Tokenizer.load(bundle)

    def __call__(self, sentence: str) -> str:
        """Translate one sentence; an empty one stays empty.

        Raises:
            InputError: More tokens than the bundle was exported for.
        """
        if not sentence.strip():
            return ""
        ids = np.asarray(self._tokenizer.encode([sentence]), dtype=np.int64)
        find = greedy if self._search.beams == 1 else beam
        return self._tokenizer.decode(find(self._engine, ids, np.ones_like(ids), self._search))[0]


def translate_lines(translator: Translator, lines: BinaryIO) -> Iterator[str | InputError]:
    """Translate UTF-8 lines as they come; a line that cannot be translated gives its error instead."""
    for number, line in enumerate(lines, start=1):
        try:
            sentence = line.decode("utf-8").rstrip("\n")
            yield translator(sentence)
        except UnicodeDecodeError as error:
            yield InputError(
                "not UTF-8",
                where=f"line {number}",
                got=f"byte {error.object[error.start]:#04x}",
                fix="convert the text to UTF-8",
            )
        except InputError as error:
            yield InputError(f"line {number}: {error}")
