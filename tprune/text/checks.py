"""What is wrong with parallel text: counted with line numbers; a training pair is dropped or refused."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tprune.errors import InputError
from tprune.text.sources import SHOWN, Segments, numbered

Found = dict[str, list[int]]
"""Line numbers (from 1) by kind of problem; a line stands under the first kind it shows."""


def pairs(split: Segments, held_out: Sequence[Segments] = ()) -> Found:
    """Empty, identical and duplicate pairs of a split, and those a held-out split knows.

    Args:
        split: The pairs to look at.
        held_out: Validation and test text for the training split, test text for the validation split: a pair either
            side of which stands in there as a whole would be tested on what was trained, or chosen by.
    """
    found: Found = {"empty": [], "identical": [], "duplicate": [], "held_out": []}
    sources = {text for other in held_out for text in other.source}
    targets = {text for other in held_out for text in other.target}
    seen: set[tuple[str, str]] = set()
    for number, pair in enumerate(zip(split.source, split.target, strict=True), 1):
        if not all(pair):
            found["empty"].append(number)
        elif pair[0] == pair[1]:
            found["identical"].append(number)
        elif pair in seen:
            found["duplicate"].append(number)
        elif pair[0] in sources or pair[1] in targets:
            found["held_out"].append(number)
        seen.add(pair)
    return found


def too_long(lengths: NDArray[np.int32], numbers: Sequence[int], max_tokens: int) -> list[int]:
    """Line numbers of pairs with a side over `max_tokens`, the end of sentence included.

    Args:
        lengths: (n, 2) tokens of source and target.
        numbers: Line numbers of these n pairs.
        max_tokens: Longest side allowed.
    """
    return [numbers[row] for row in np.flatnonzero(lengths.max(axis=1, initial=0) > max_tokens).tolist()]


def kept(split: Segments, found: Found) -> list[int]:
    """Line numbers of the pairs without a problem."""
    bad = {number for numbers in found.values() for number in numbers}
    return [number for number in range(1, len(split) + 1) if number not in bad]


def refuse(name: str, found: Found, fix: str) -> None:
    """Stop at problems.

    Raises:
        InputError: There are any.
    """
    problems = [f"{WORDS[kind]}: {len(lines)} ({numbered(lines)})" for kind, lines in found.items() if lines]
    if problems:
        raise InputError("pairs that cannot be trained on", where=name, problems=problems, fix=fix)


def report(split: Segments, found: Found, lengths: NDArray[np.int32], dropped: bool) -> dict[str, Any]:
    """A split's part of `checks.json`.

    Args:
        split: What was read.
        found: Its problems.
        lengths: (n, 2) tokens of the pairs that were kept.
        dropped: Whether the pairs with problems are gone.
    """
    counted: Mapping[str, list[int]] = {**found, "stripped": split.stripped}
    return {
        "read": len(split),
        "kept": len(lengths),
        "dropped": dropped and len(split) != len(lengths),
        "problems": {
            kind: {"what": WORDS[kind], "count": len(lines), "first_lines": lines[:SHOWN]}
            for kind, lines in counted.items()
            if lines
        },
        "tokens": {
            side: {"mean": round(float(column.mean()), 2), "longest": int(column.max())}
            for side, column in zip(("source", "target"), lengths.T, strict=True)
        },
    }


def told(name: str, part: Mapping[str, Any]) -> str | None:
    """What became of a split's pairs, in a line; None where all were kept and none is known from the tests.

    Args:
        name: The split.
        part: Its part of `checks.json`.
    """
    if not part["dropped"]:
        known = part["problems"].get("held_out")
        return known and (
            f"{name}: {known['count']} of {part['read']} pairs are known from a test split ({_lines(known)}): what is "
            "chosen by them is tested on them"
        )
    problems = []
    for kind, entry in part["problems"].items():
        if kind not in KEPT:
            problems.append(f"{entry['what']}: {entry['count']} ({_lines(entry)})")
    return f"{name}: {part['kept']} of {part['read']} pairs kept; {'; '.join(problems)}"


def _lines(entry: Mapping[str, Any]) -> str:
    return numbered(entry["first_lines"]) + (" …" if entry["count"] > len(entry["first_lines"]) else "")


KEPT = ("stripped",)  # problems of pairs that stay
WORDS: Mapping[str, str] = {
    "empty": "a side is empty",
    "identical": "source and target are the same",
    "duplicate": "pair occurred before",
    "held_out": "source or target stands in a validation or test split",
    "too_long": "a side is longer than text.max_tokens",
    "stripped": "surrounding whitespace or inner line break taken off",
}
