"""Greedy and beam search over any engine that can encode and step.

The searches give what Hugging Face's `generate` gives for the same settings, so that a BLEU
difference between engines is the model's and never the search's.

Shapes: B sentences (or sentences x beams), S source length, A sentences still going, K beams,
W candidates of a beam, T target length, N vocabulary.
"""

from collections.abc import Callable, Sequence
from itertools import count
from math import isqrt

import numpy as np

from tprune.errors import InputError, ModelError, shown
from tprune.model.engine import Engine, GreedyEngine, Ids, Logits
from tprune.model.search import Search

DEAD = np.float32(-1e9)  # score of a beam that only fills the array: below every real one, and still finite


def translate(
    engine: Engine,
    sentences: Sequence[Sequence[int]],
    search: Search,
    batch_size: int = 32,
    progress: Callable[[int], None] | None = None,
) -> list[list[int]]:
    """Translate token ids in batches of like length.

    Args:
        engine: What computes.
        sentences: Source ids with whatever the tokenizer puts around them; one without a token
            besides eos and padding is empty, and so is its translation.
        search: How to search.
        batch_size: Sentences per batch.
        progress: Told the number of newly finished sentences after every batch.

    Returns:
        Target ids in the order of `sentences`, without the start token and eos.

    Raises:
        InputError: Sentences longer than the engine takes; their indices count from 0.
    """
    return in_batches(lambda source, mask: find(engine, source, mask, search), sentences, search, batch_size, progress)


def in_batches(
    batch: Callable[[Ids, Ids], list[list[int]]],
    sentences: Sequence[Sequence[int]],
    search: Search,
    batch_size: int = 32,
    progress: Callable[[int], None] | None = None,
) -> list[list[int]]:
    """Translate as `translate` does, with any function from source ids (B, S) and mask (B, S) to B translations."""
    long = [(index, len(ids)) for index, ids in enumerate(sentences) if len(ids) > search.longest_source]
    if long:
        raise InputError(
            "source longer than the model takes",
            problems=shown([f"sentence index {index}: {length} tokens" for index, length in long]),
            wanted=f"at most {search.longest_source} tokens each",
            fix="split or drop these sentences; where this is a bundle, export with a larger export.max_source",
        )
    found: list[list[int]] = [[] for _ in sentences]
    full = [index for index, ids in enumerate(sentences) if not set(ids) <= {search.eos, search.pad}]
    order = sorted(full, key=lambda index: -len(sentences[index]))  # longest first: memory runs out at once or never
    if progress is not None and len(full) < len(sentences):
        progress(len(sentences) - len(full))
    for begin in range(0, len(order), batch_size):
        indices = order[begin : begin + batch_size]
        translations = batch(*_padded([sentences[index] for index in indices], search.pad))
        for index, ids in zip(indices, translations, strict=True):
            found[index] = ids
        if progress is not None:
            progress(len(indices))
    return found


def find(engine: Engine, source: Ids, mask: Ids, search: Search) -> list[list[int]]:
    """Greedy or beam search, as the settings say; arguments and result as for `greedy`."""
    return (greedy if search.beams == 1 else beam)(engine, source, mask, search)


def greedy(engine: Engine, source: Ids, mask: Ids, search: Search) -> list[list[int]]:
    """The best next token, again and again; inside the engine where it can.

    Args:
        engine: What computes.
        source: (B, S) ids, padded on the right.
        mask: (B, S), 1 = token, 0 = padding.
        search: How to search.

    Returns:
        B lists of target ids, without the start token and eos.
    """
    if isinstance(engine, GreedyEngine):
        return engine.greedy(source, mask, search)
    return greedy_by_steps(engine, source, mask, search)


def one_by_one(engine: Engine, search: Search) -> Callable[[Sequence[int]], list[int]]:
    """Translation of one sentence's ids at a time, as on a phone."""

    def translate_one(source: Sequence[int]) -> list[int]:
        ids = np.asarray([source], dtype=np.int64)
        return find(engine, ids, np.ones_like(ids), search)[0]

    return translate_one


def greedy_by_steps(engine: Engine, source: Ids, mask: Ids, search: Search) -> list[list[int]]:
    """Greedy search over `encode` and `step`; arguments and result as for `greedy`."""
    found: list[list[int]] = [[] for _ in source]
    limits, active = length_limits(mask, search), np.arange(len(source))
    state, tokens = engine.encode(source, mask), np.full(len(source), search.start)
    for length in count(1):
        logits, state = engine.step(tokens, state)
        scores = _constrained(logits.astype(np.float32), length, limits, search)
        tokens = scores.argmax(axis=1)
        for index, token in zip(active, tokens, strict=True):
            if token != search.eos:
                found[index].append(int(token))
        going = np.flatnonzero((tokens != search.eos) & (length < limits))
        if not len(going):
            break
        if len(going) < len(active):  # finished sentences cost no more time
            state = engine.reorder(state, going)
            tokens, limits, active = tokens[going], limits[going], active[going]
    return found


def beam(engine: Engine, source: Ids, mask: Ids, search: Search) -> list[list[int]]:
    """Beam search as `generate(num_beams=K, early_stopping=False)`; arguments and result as for `greedy`.

    Of the 2K best continuations the K best that go on are followed, and those of the K best that end
    compete for K places of finished hypotheses. A sentence is done when its places are taken and its
    best running hypothesis, scored at its present length, beats none of them.
    """
    size, beams = len(source), search.beams
    finished: list[list[tuple[float, list[int]]]] = [[] for _ in source]  # best first
    limits, active = length_limits(mask, search), np.arange(size)
    state = engine.reorder(engine.encode(source, mask), np.arange(size).repeat(beams))
    running = np.full((size, beams, 1), search.start)  # (A, K, T)
    scores = np.full((size, beams), DEAD)
    scores[:, 0] = 0  # equal beams would find the same continuations: begin with one
    for length in count(1):
        logits, state = engine.step(running[:, :, -1].reshape(-1), state)
        token_scores = _constrained(_log_softmax(logits), length, limits.repeat(beams), search)
        best, parents, tokens = _candidates(token_scores, scores)
        final = best / np.float32(length**search.length_penalty)
        ends = (tokens == search.eos) | (length >= limits[:, None])
        for row, rank in np.argwhere(ends[:, :beams] & (best[:, :beams] > DEAD / 2)):
            ids = [*running[row, parents[row, rank], 1:].tolist(), int(tokens[row, rank])]
            finished[active[row]].append((float(final[row, rank]), ids))
        going = []
        follow = np.argsort(ends, axis=1, kind="stable")[:, :beams]
        for row, index in enumerate(active):
            finished[index] = places = sorted(finished[index], key=lambda place: -place[0])[:beams]
            hope = final[row, follow[row, 0]]
            if length < limits[row] and (len(places) < beams or hope > places[-1][0]):
                going.append(row)
        if not going:
            break
        kept = np.array(going)[:, None]
        follow = follow[going]
        parents, tokens, scores = (array[kept, follow] for array in (parents, tokens, best))
        rows = kept * beams + parents  # (A, K)
        state = engine.reorder(state, rows.reshape(-1))
        running = np.concatenate((running.reshape(-1, length)[rows], tokens[:, :, None]), axis=2)
        limits, active = limits[going], active[going]
    winners = [places[0][1] for places in finished]
    return [ids[:-1] if ids[-1] == search.eos else ids for ids in winners]


def _padded(sentences: Sequence[Sequence[int]], pad: int) -> tuple[Ids, Ids]:
    lengths = np.array([len(ids) for ids in sentences])
    mask = (np.arange(lengths.max()) < lengths[:, None]).astype(np.int64)
    source = np.full(mask.shape, pad)
    source[mask == 1] = np.concatenate([np.asarray(ids) for ids in sentences])
    return source, mask


def length_limits(mask: Ids, search: Search) -> Ids:
    """Greatest number of target tokens (B,) for source masks (B, S)."""
    return np.array([search.max_length(int(length)) for length in mask.sum(axis=1)])


def _constrained(scores: Logits, length: int, limits: Ids, search: Search) -> Logits:
    """Overwrite (B, N) scores of the `length`-th token by what the settings rule out."""
    if np.isnan(scores[:, search.eos]).any():
        raise ModelError(
            "the model's output is not a number",
            where=f"target token {length}",
            fix="its weights diverged or are damaged: train, prune or convert it again",
        )
    scores[:, list(search.banned)] = -np.inf
    if search.forced_bos is not None and length == 1:
        scores[:] = -np.inf
        scores[:, search.forced_bos] = 0
    if search.forced_eos is not None:
        last = length == limits
        scores[last] = -np.inf
        scores[last, search.forced_eos] = 0
    return scores


def _log_softmax(logits: Logits) -> Logits:
    shifted: Logits = logits - logits.max(axis=1, keepdims=True)
    shifted -= np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return shifted


def _candidates(token_scores: Logits, scores: Logits) -> tuple[Logits, Ids, Ids]:
    """The 2K best continuations of each sentence: score, parent beam and token, each (A, 2K), best first.

    Args:
        token_scores: (A*K, N) log-probabilities.
        scores: (A, K) of the running hypotheses.
    """
    size, beams = scores.shape
    rows, vocabulary = np.arange(size)[:, None], token_scores.shape[1]
    sums = (token_scores.reshape(size, beams, -1) + scores[:, :, None]).reshape(size, -1)  # (A, K*N)
    found = highest(sums, 2 * beams)
    found = found[rows, np.argsort(-sums[rows, found], axis=1, kind="stable")]
    return sums[rows, found], found // vocabulary, found % vocabulary


def highest(scores: Logits, wide: int) -> Ids:
    """Columns of the `wide` highest scores of each row of (R, N), in no order: (R, wide).

    Of parts of a row laid one over the other, only the columns with the highest tops can hold them. Partitioning the
    whole row takes many times as long.
    """
    rows, size = np.arange(len(scores))[:, None], scores.shape[1]
    parts = isqrt(size // wide)
    width = size // parts
    even = parts * width
    tops = scores[:, :even].reshape(-1, parts, width).max(axis=1)
    columns = _partitioned(tops, wide)[:, None, :] + np.arange(0, even, width)[:, None]  # (R, parts, wide)
    rest = np.broadcast_to(np.arange(even, size), (len(scores), size - even))
    columns = np.concatenate((columns.reshape(len(scores), -1), rest), axis=1)
    return columns[rows, _partitioned(scores[rows, columns], wide)]


def _partitioned(scores: Logits, wide: int) -> Ids:
    # the highest come first: a partition that ends with them takes ten times as long where most scores are -inf
    return np.argpartition(-scores, wide - 1, axis=1)[:, :wide]
