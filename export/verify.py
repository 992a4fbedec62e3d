"""Compare an engine with the model it was exported from, token by token."""

import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from tprune.errors import ExportError
from tprune.export.description import Bundle
from tprune.model.decode import greedy
from tprune.model.engine import Engine, Ids, Logits, TorchEngine
from tprune.model.search import Search
from tprune.model.transformer import TPruneForConditionalGeneration

TOLERANCE = 1e-4  # of a logit, fp32
SPARE_STEPS = 8  # decoded beyond the source's length, where translations mostly have ended


def verify(
    model: TPruneForConditionalGeneration, engine: Engine, bundle: Bundle, sentences: Sequence[Sequence[int]]
) -> dict[str, Any]:
    """Decode with the engine step by step, and the same tokens with the model in one pass without a cache.

    The first sentence is decoded up to the bundle's limit, the others to a bit beyond their own length. Then
    every sentence is translated by both, the engine's whole search included. Where two tokens are as good as
    each other, within the tolerance, either may win.

    Args:
        model: The model, in evaluation mode.
        engine: The bundle's engine.
        bundle: Its limits and special tokens.
        sentences: Source ids, none longer than the limit.

    Returns:
        A report: sentences, tokens, largest difference of a logit, tokens and translations that differ.

    Raises:
        ExportError: A logit differs by more than TOLERANCE, or tokens or translations differ.
    """
    search, reference = Search(**bundle.search), TorchEngine(model)
    tokens, different, translations, ties, worst = 0, 0, 0, 0, np.float32(0)
    for index, sentence in enumerate(sentences):
        steps = min(bundle.max_target, len(sentence) + SPARE_STEPS) if index else bundle.max_target
        source = np.array([sentence])
        fed, got = _greedy(engine, source, search.start, steps)
        wanted = _reference(model, source, fed)
        worst = np.maximum(worst, np.abs(got - wanted).max())  # keeps a NaN
        short = wanted.max(1) - wanted[np.arange(steps), got.argmax(1)]  # of the best token, by the one chosen
        tokens, different = tokens + steps, different + int((short > 2 * TOLERANCE).sum())
        ones = np.ones_like(source)
        found, expected = (greedy(run, source, ones, search)[0] for run in (engine, reference))
        if found != expected:
            tied = _tied(model, source, found, expected, search)
            translations, ties = translations + (not tied), ties + tied
    report = {
        "sentences": len(sentences),
        "tokens": tokens,
        "max_difference": float(worst),
        "different_tokens": different,
        "different_translations": translations,
        "tied_translations": ties,
    }
    if not worst <= TOLERANCE or different or translations:  # so that a NaN fails
        raise ExportError(
            "the exported graphs differ from the model",
            where=bundle.engine,
            got=f"logits off by {worst:.2g}, {different} of {tokens} tokens and {translations} of {len(sentences)} "
            "translations different",
            wanted=f"at most {TOLERANCE:g} and the same tokens",
            fix="report this with the model's config.json",
        )
    return report


def _tied(
    model: TPruneForConditionalGeneration, source: Ids, found: list[int], expected: list[int], search: Search
) -> bool:
    """Whether the first tokens that differ are equally good to the model, within the tolerance."""
    ended, wanted = [*found, search.eos], [*expected, search.eos]
    at = next(index for index, (one, other) in enumerate(zip(ended, wanted, strict=False)) if one != other)
    logits = _reference(model, source, np.array([search.start, *expected[:at]]))[-1]
    return bool(abs(logits[ended[at]] - logits[wanted[at]]) <= 2 * TOLERANCE)


def random_sentences(count: int, vocabulary: int, longest: int) -> list[list[int]]:
    """Token ids to verify with when there is no text: lengths from `longest` down to 1, the same every time."""
    chance = random.Random(count)
    lengths = np.linspace(longest, 1, count).round().astype(int)
    return [[chance.randrange(vocabulary) for _ in range(length)] for length in lengths]


def _greedy(engine: Engine, source: Ids, start: int, steps: int) -> tuple[Ids, Logits]:
    """Tokens fed (T,) and logits (T, N) of one (1, S) sentence, past eos."""
    fed, found = [start], []
    state = engine.encode(source, np.ones_like(source))
    for _ in range(steps):
        logits, state = engine.step(np.array(fed[-1:]), state)
        found.append(logits[0])
        fed.append(int(logits[0].argmax()))
    return np.array(fed[:-1]), np.stack(found)


@torch.inference_mode()
def _reference(model: TPruneForConditionalGeneration, source: Ids, fed: Ids) -> Logits:
    """The model's logits (T, N) for the same tokens."""
    states = model.encoder(torch.from_numpy(source)).last_hidden_state
    decoded = model.decode(torch.from_numpy(fed)[None], model.cross(states), None)
    return model.logits(decoded)[0].numpy()
