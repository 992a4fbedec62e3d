"""Token batches: nothing lost, nothing twice, nothing too large, the same every time."""

import itertools
from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from accelerate.data_loader import BatchSamplerShard
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.sparsity.small_models import Sentences
from tprune.learn.batches import Pairs, TokenBatches, collate, cut, padded

lengths_of = st.lists(st.tuples(st.integers(1, 30), st.integers(1, 30)), min_size=1, max_size=80).map(
    lambda rows: np.array(rows, dtype=np.int32)
)


def one_pass(lengths: NDArray[np.int32], tokens: int, seed: int) -> list[list[int]]:
    """Batches up to the one that completes the first pass over the corpus."""
    batches = []
    for batch in TokenBatches(lengths, tokens, 10_000, seed):
        batches.append(batch)
        if sum(map(len, batches)) >= len(lengths):
            break
    return batches


@settings(max_examples=60, deadline=None)
@given(lengths_of, st.integers(1, 300), st.integers(0, 5))
def test_every_sentence_once_a_pass_within_the_token_limit(lengths: NDArray[np.int32], tokens: int, seed: int) -> None:
    batches = one_pass(lengths, tokens, seed)
    assert Counter(itertools.chain(*batches)) == Counter(range(len(lengths)))
    for batch in batches:
        assert batch
        assert len(batch) == 1 or len(batch) * lengths[batch].max() <= tokens  # one sentence always fits
    assert batches == one_pass(lengths, tokens, seed)


def test_passes_are_shuffled_anew_and_the_stream_has_exactly_its_length() -> None:
    lengths = np.random.default_rng(0).integers(1, 20, (50, 2)).astype(np.int32)
    first = len(one_pass(lengths, 60, seed=1))
    stream = TokenBatches(lengths, 60, 5 * first, seed=1)
    batches = list(stream)
    assert len(batches) == len(stream) == 5 * first
    counts = Counter(itertools.chain(*batches))
    assert set(counts) == set(range(50))
    assert max(counts.values()) - min(counts.values()) <= 1
    assert batches[:first] != batches[first : 2 * first]
    assert batches == list(stream)  # a second iteration starts over
    assert batches[:first] != one_pass(lengths, 60, seed=2)
    assert list(TokenBatches(lengths, 60, 3, seed=1)) == batches[:3]  # the seed, not the length, decides


def test_similar_lengths_share_a_batch() -> None:
    lengths = np.array([[length, length] for length in range(1, 41)], dtype=np.int32)
    for batch in one_pass(lengths, 120, seed=0):
        assert sorted(batch) == list(range(min(batch), max(batch) + 1))


@pytest.mark.parametrize("world", [1, 2, 3])
def test_processes_share_the_stream_without_overlap(world: int) -> None:
    """Batch w of every W goes to process w, as accelerate cuts it; one process accumulating W sees the same."""
    lengths = np.random.default_rng(0).integers(1, 20, (40, 2)).astype(np.int32)
    stream = TokenBatches(lengths, 50, 4 * world, seed=3)
    shards = [
        list(BatchSamplerShard(stream, num_processes=world, process_index=rank, even_batches=False))
        for rank in range(world)
    ]
    assert [len(shard) for shard in shards] == [4] * world
    assert list(itertools.chain(*zip(*shards, strict=True))) == list(stream)


def test_cut_by_hand() -> None:
    longest = np.array([3, 5, 2, 9, 4], dtype=np.int32)
    assert cut(np.array([2, 0, 4, 1, 3]), longest, 9) == [[2, 0], [4], [1], [3]]
    assert cut(np.array([2, 0, 4, 1, 3]), longest, 12) == [[2, 0, 4], [1], [3]]
    assert cut(np.array([3, 2, 0]), longest, 18) == [[3, 2], [0]]
    assert cut(np.array([3, 3]), longest, 1) == [[3], [3]]


def test_collate_by_hand() -> None:
    pairs: list[tuple[NDArray[Any], NDArray[Any]]] = [
        (np.array([5, 6, 1], dtype=np.uint16), np.array([7, 1], dtype=np.uint16)),
        (np.array([8, 1], dtype=np.uint16), np.array([9, 4, 3, 1], dtype=np.uint16)),
    ]
    found = collate(pairs, pad_id=0, start_id=2)
    assert {name: tensor.tolist() for name, tensor in found.items()} == {
        "input_ids": [[5, 6, 1], [8, 1, 0]],
        "attention_mask": [[1, 1, 1], [1, 1, 0]],
        "decoder_input_ids": [[2, 7, 1, 0], [2, 9, 4, 3]],
        "labels": [[7, 1, -100, -100], [9, 4, 3, 1]],
    }
    assert {tensor.dtype for tensor in found.values()} == {torch.int64}


def test_padding_is_known_by_length_and_not_by_its_id() -> None:
    ids, mask = padded([[0, 3], [0, 0, 0]], pad_id=0)
    assert ids.tolist() == [[0, 3, 0], [0, 0, 0]]
    assert mask.tolist() == [[1, 1, 0], [1, 1, 1]]


def test_pairs_are_the_corpus() -> None:
    corpus = Sentences.random(3)
    assert len(Pairs(corpus)) == 3
    assert all(np.array_equal(Pairs(corpus)[1][side], corpus[1][side]) for side in (0, 1))
