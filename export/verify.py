"""Compare an engine with the model it was exported from, token by token."""

import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from tprune.errors import ExportError
from tprune.export.description import Bundle
from tprune.model.engine import Engine, Ids, Logits
from tprune.model.transformer import TPruneForConditionalGeneration

TOLERANCE = 1e-4  # of a logit, fp32
SPARE_STEPS = 8  # decoded beyond the source's length, where translations mostly have ended


def verify(
    model: TPruneForConditionalGeneration, engine: Engine, bundle: Bundle, sentences: Sequence[Sequence[int]]
) -> dict[str, Any]:
    """Decode greedily with the engine, and the same tokens with the model in one pass without a cache.

    The first sentence is decoded up to the bundle's limit, the others to a bit beyond their own
    length. Where all logits agree and every token is the model's best one too, both engines give
    the same greedy translation.

    Args:
        model: The model, in evaluation mode.
        engine: The bundle's engine.
        bundle: Its limits and special tokens.
        sentences: Source ids, none longer than the limit.

    Returns:
        A report: sentences, tokens, largest difference of a logit, tokens that differ.

    Raises:
        ExportError: A logit differs by more than TOLERANCE, or the greedy translations differ.
    """
    start, tokens, different, worst = bundle.search["start"], 0, 0, np.float32(0)
    for index, sentence in enumerate(sentences):
        steps = min(bundle.max_target, len(sentence) + SPARE_STEPS) if index else bundle.max_target
        source = np.array([sentence])
        fed, got = _greedy(engine, source, start, steps)
        wanted = _reference(model, source, fed)
        worst = np.maximum(worst, np.abs(got - wanted).max())  # keeps a NaN
        tokens, different = tokens + steps, different + int((got.argmax(1) != wanted.argmax(1)).sum())
    report = {
        "sentences": len(sentences),
        "tokens": tokens,
        "max_difference": float(worst),
        "different_tokens": different,
    }
    if not worst <= TOLERANCE or different:  # so that a NaN fails
        raise ExportError(
            "the exported graphs differ from the model",
            where=bundle.engine,
            got=f"logits off by {worst:.2g}, {different} of {tokens} tokens different",
            wanted=f"at most {TOLERANCE:g} and the same tokens",
            fix="report this with the model's config.json",
        )
    return report


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
