"""Compare an engine with the model it was exported from, token by token."""

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from tprune.errors import ExportError
from tprune.export.description import Bundle
from tprune.export.shortlist import Restricted, Shortlist
from tprune.model.decode import greedy, greedy_by_steps
from tprune.model.engine import Engine, GreedyEngine, Ids, Logits
from tprune.model.search import Search
from tprune.model.torch_engine import TorchEngine
from tprune.model.transformer import TPruneForConditionalGeneration

TOLERANCE = 1e-4  # of a logit, fp32
ROUNDING = 0.1  # int8: root mean square of the logits' errors, relative to their own deviation
SPARE_STEPS = 8  # decoded beyond the source's length, where translations mostly have ended


def verify(
    model: TPruneForConditionalGeneration,
    engine: Engine,
    bundle: Bundle,
    sentences: Sequence[Sequence[int]],
    shortlist: Shortlist | None = None,
) -> dict[str, Any]:
    """Decode with the engine step by step, and the same tokens with the model in one pass without a cache.

    The first sentence is decoded up to the bundle's limit, the others to a bit beyond their own length. Then every
    sentence is translated by the engine's whole search, at most as far. In fp32 it has to find what the model finds, in
    int8 what its own steps find; where two tokens are as good as each other, within the tolerance (int8: within the
    error of the logits), either may win.

    Args:
        model: The model, in evaluation mode.
        engine: The bundle's engine.
        bundle: Its limits, special tokens and precision.
        sentences: Source ids, none longer than the limit.
        shortlist: What is in the bundle; the model is then held to the same candidates.

    Returns:
        A report: sentences, tokens, largest and relative root mean square difference of the logits, tokens and
        translations that differ.

    Raises:
        ExportError: Logits differ by more than TOLERANCE (int8: ROUNDING), or tokens or translations differ.
    """
    exact, search = bundle.precision == "fp32", Search(**bundle.search)
    reference: Engine = TorchEngine(model) if shortlist is None else Restricted(TorchEngine(model), shortlist)
    tokens, different, translations, ties, worst = 0, 0, 0, 0, np.float32(0)
    errors, spread = 0.0, 0.0
    for index, sentence in enumerate(sentences):
        steps = min(bundle.max_target, len(sentence) + SPARE_STEPS) if index else bundle.max_target
        source = np.array([sentence])
        fed, got = _greedy(engine, source, search.start, steps)
        wanted = _reference(model, source, fed)
        if shortlist is not None:
            candidates = shortlist.candidates(source)
            got, wanted = got[:, candidates], wanted[:, candidates]
        worst = np.maximum(worst, np.abs(got - wanted).max())  # keeps a NaN
        errors, spread = errors + float(np.square(got - wanted).mean()), spread + float(wanted.var())
        short = wanted.max(1) - wanted[np.arange(steps), got.argmax(1)]  # of the best token, by the one chosen
        tokens, different = tokens + steps, different + int((short > 2 * TOLERANCE).sum())
        ones = np.ones_like(source)
        if not exact and not isinstance(engine, GreedyEngine):
            continue  # its search is its steps
        bounded = replace(search, max_new_tokens=min(steps, search.max_length(len(sentence))))
        found = greedy(engine, source, ones, bounded)[0]
        stepping = reference if exact else engine
        expected = greedy_by_steps(stepping, source, ones, bounded)[0]
        if found != expected:
            gap = _gap(stepping, source, found, expected, search)
            # in int8, two ways of summing may round an activation differently
            tied = gap <= (2 * TOLERANCE if exact else float(np.abs(got - wanted).max()))
            translations, ties = translations + (not tied), ties + tied
    error = (errors / max(spread, 1e-30)) ** 0.5
    report = {
        "sentences": len(sentences),
        "tokens": tokens,
        "max_difference": float(worst),
        "relative_error": error,
        "different_tokens": different,
        "different_translations": translations,
        "tied_translations": ties,
    }
    close = worst <= TOLERANCE and not different if exact else error <= ROUNDING
    if not close or translations:  # so that a NaN fails
        raise ExportError(
            "the exported graphs differ from the model",
            where=f"{bundle.engine} {bundle.precision}",
            got=f"logits off by {worst:.2g} ({error:.2g} of their deviation), {different} of {tokens} tokens and "
            f"{translations} of {len(sentences)} translations different",
            wanted=f"at most {TOLERANCE:g} and the same tokens" if exact else f"at most {ROUNDING:g} of the deviation",
            fix="report this with the model's config.json",
        )
    return report


def _gap(engine: Engine, source: Ids, found: list[int], expected: list[int], search: Search) -> float:
    """By how much the engine's logits of the first two tokens that differ are apart."""
    ended, wanted = [*found, search.eos], [*expected, search.eos]
    at = next(index for index, (one, other) in enumerate(zip(ended, wanted, strict=False)) if one != other)
    state = engine.encode(source, np.ones_like(source))
    for token in [search.start, *expected[:at]]:
        logits, state = engine.step(np.array([token]), state)
    return float(abs(logits[0, ended[at]] - logits[0, wanted[at]]))


def random_sentences(count: int, vocabulary: int, longest: int) -> list[list[int]]:
    """Token ids to verify with when there is no text: lengths from `longest` down to 1, the same every time.

    Most are short, as in a text: a long one costs as much as many, and random ids are not translated into a few words.
    """
    chance = random.Random(count)
    lengths = np.geomspace(longest, 1, count).round().astype(int)
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
