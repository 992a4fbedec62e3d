"""From sentences to sentences with a bundle: tokenizer, engine and search in one place."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from io import BufferedIOBase
from itertools import chain
from pathlib import Path

from tprune.errors import ArtifactError, InputError
from tprune.export import description
from tprune.export.runtime import open_bundle
from tprune.model import decode
from tprune.model.search import Search
from tprune.text import plain_tokenizer

BATCH = 8
"""Sentences at a time where no translation depends on the lines around it: they take half the time that so many times
one take."""

WINDOW = 8  # batches
CHUNK_BYTES = 1 << 14  # read at a time from a file; a pipe gives what there is, so that nobody waits for more
BLANKS = str.maketrans(dict.fromkeys("\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029", " "))  # bytes can spell them all


@dataclass(frozen=True)
class Refused:
    """A line that cannot be translated.

    Attributes:
        line: Its number, from 1.
        reason: What is wrong with it.
    """

    line: int
    reason: InputError


class Unfinished(str):
    """A translation that was cut off at its greatest length, see `Search.max_length`."""

    __slots__ = ()


class Translator:
    """A bundle ready to translate.

    Args:
        bundle: The bundle's directory.
        beams: Beam size; 1 is greedy.
        threads: Threads of the engine.
        batch: Sentences at a time; None: what suits the bundle.

    Raises:
        ArtifactError: No bundle, damaged, or for another version of the engine.
        MachineError: The engine is not installed.
        InputError: A number below 1.

    Attributes:
        window: Sentences that make good batches of like length.
    """

    def __init__(self, bundle: Path, *, beams: int = 1, threads: int = 1, batch: int | None = None) -> None:
        for name, value in (("beam", beams), ("batch", batch)):
            if value is not None and value < 1:
                raise InputError("too small", where=name, got=value, wanted="1 or more", fix="correct it")
        self._engine = open_bundle(bundle, threads)
        self._said = description.read(bundle)
        self._search = replace(Search(**self._said.search), beams=beams)
        self._limit = min(self._said.max_source, self._search.longest_source)
        self._batch = (1 if self._said.one_by_one else BATCH) if batch is None else batch
        self.window = 1 if self._batch == 1 else WINDOW * self._batch
        self._tokenizer = plain_tokenizer.load(bundle)

    def __call__(self, sentence: str) -> str:
        """Translate one sentence; an empty one stays empty.

        Raises:
            InputError: More tokens than the bundle was exported for.
            ArtifactError: The tokenizer does not fit the graphs.
        """
        (found,) = self.translate([sentence])
        if isinstance(found, InputError):
            raise found
        return found

    def translate(self, sentences: Sequence[str]) -> list[str | InputError]:
        """Translate sentences in batches of like length; one that is too long gives its error instead.

        Translations that were cut off are `Unfinished`.

        Raises:
            ArtifactError: The tokenizer does not fit the graphs.
        """
        found: list[str | InputError] = [""] * len(sentences)
        full = [index for index, sentence in enumerate(sentences) if sentence.strip()]
        ids = dict(zip(full, self._tokenizer.encode([sentences[index] for index in full]), strict=True))
        self._check(ids.values(), self._said.vocabulary, "the graphs know", "source")
        for index, tokens in list(ids.items()):
            if len(tokens) > self._limit:
                found[index] = InputError(
                    "sentence too long for the bundle",
                    got=f"{len(tokens)} tokens",
                    wanted=f"at most {self._limit}",
                    fix="split the sentence, or export with a larger export.max_source",
                )
                del ids[index]
        translated = decode.translate(self._engine, list(ids.values()), self._search, self._batch)
        self._check(translated, self._tokenizer.vocabulary_size, "the tokenizer knows", "target")
        for index, tokens, text in zip(ids, translated, self._tokenizer.decode(translated), strict=True):
            cut = self._search.is_cut(len(ids[index]), len(tokens))
            found[index] = (Unfinished if cut else str)(text.translate(BLANKS))
        return found

    def _check(self, rows: Iterable[Sequence[int]], size: int, who: str, side: str) -> None:
        highest = max(chain.from_iterable(rows), default=0)
        if highest >= size:
            raise ArtifactError(
                "the tokenizer does not fit the graphs",
                where=self._said.path,
                got=f"{side} token {highest}",
                wanted=f"0 to {size - 1}, which {who}",
                fix="export the bundle again, from a model with its own tokenizer",
            )


def translate_lines(translator: Translator, lines: BufferedIOBase) -> Iterator[str | Refused]:
    """Translate UTF-8 lines as they come, in their order; a line that cannot be translated gives its error instead.

    What has come is translated in windows, the first of one line, so that output begins at once, the next ones larger,
    so that batches of like length can be made.

    Raises:
        ArtifactError: The tokenizer does not fit the graphs.
    """
    first, size = 1, 1
    for chunk in _chunks(lines):
        start = 0
        while start < len(chunk):
            texts = [_decoded(line) for line in chunk[start : start + size]]
            found = iter(translator.translate([text for text in texts if isinstance(text, str)]))
            for number, text in enumerate(texts, start=first):
                result = next(found) if isinstance(text, str) else text
                yield Refused(number, result) if isinstance(result, InputError) else result
            first, start, size = first + len(texts), start + len(texts), min(2 * size, translator.window)


def _chunks(lines: BufferedIOBase) -> Iterator[list[bytes]]:
    """Whole lines, as many as one read gives."""
    rest = b""
    while read := lines.read1(CHUNK_BYTES):
        *whole, rest = (rest + read).split(b"\n")
        yield whole
    if rest:
        yield [rest]


def _decoded(line: bytes) -> str | InputError:
    try:
        return line.decode("utf-8").rstrip("\r")
    except UnicodeDecodeError as error:
        return InputError("not UTF-8", got=f"byte {line[error.start]:#04x}", fix="convert the text to UTF-8")
