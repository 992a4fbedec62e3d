"""Sentences that are too long, found before hours of work and not behind them."""

from collections.abc import Sequence

import numpy as np

from tprune.artifact import Artifact
from tprune.errors import InputError, shown
from tprune.text.corpus import read_lengths

SIDES = ("source", "target")


def require_positions(text: Artifact, positions: int) -> None:
    """Refuse sentences that a model has no positions for: of test splits the sources, of the others both sides.

    Args:
        text: A corpus.
        positions: The model's positions, on each side.

    Raises:
        InputError: There are some; those of the validation and test splits are named by their lines.
    """
    said = text.manifest["config"]
    longest = int(read_lengths(text, said["train"]).max(initial=0))
    if longest > positions:
        raise InputError(
            "training sentences longer than the model has positions for",
            where=text.path,
            got=f"up to {longest} tokens",
            wanted=f"at most {positions}",
            fix=f"make the corpus again with text.max_tokens = {positions}, or train with a larger model.max_positions",
        )
    found = _long(text, said["valid"], positions, SIDES)
    for name in said["test"]:
        found |= _long(text, name, positions, SIDES[:1])
    _refuse(
        text,
        found,
        positions,
        "sentences longer than the model has positions for",
        "shorten these lines and make the corpus again, or train with a larger model.max_positions",
    )


def require_bundled(text: Artifact, max_source: int) -> None:
    """Refuse test sentences that no bundle could translate.

    Args:
        text: A corpus; its test splits are what bundles are measured with.
        max_source: The setting export.max_source.

    Raises:
        InputError: There are some, named by their lines.
    """
    found: dict[str, int] = {}
    for name in text.manifest["config"]["test"]:
        found |= _long(text, name, max_source, SIDES[:1])
    _refuse(
        text,
        found,
        max_source,
        "test sentences longer than the bundles are made for",
        f"set export.max_source to {max(found.values(), default=0)} or more, "
        "or shorten these lines and make the corpus again",
    )


def _long(text: Artifact, name: str, limit: int, sides: Sequence[str]) -> dict[str, int]:
    """Where a split's sentences of more than `limit` tokens are, and how many they have."""
    lengths = read_lengths(text, name)
    return {
        f"{name} line {line + 1}, {side}": int(lengths[line, column])
        for column, side in enumerate(sides)
        for line in np.flatnonzero(lengths[:, column] > limit)
    }


def _refuse(text: Artifact, found: dict[str, int], limit: int, what: str, fix: str) -> None:
    if not found:
        return
    problems = [f"{where}: {length} tokens" for where, length in found.items()]
    raise InputError(what, where=text.path, problems=shown(problems), wanted=f"at most {limit} tokens each", fix=fix)
