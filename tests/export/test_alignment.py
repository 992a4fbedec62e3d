"""IBM model 1 over sparse matrices against the textbook's loops over words."""

from collections import defaultdict

import numpy as np
import pytest

from tprune.export import alignment
from tprune.text.corpus import ParallelIds

EOS = 0
Sentences = list[tuple[list[int], list[int]]]


def parallel(sentences: Sentences) -> ParallelIds:
    sides = [[*side, EOS] for pair in sentences for side in pair]
    return ParallelIds(
        np.array([token for side in sides for token in side], np.uint16),
        np.cumsum([0, *(len(side) for side in sides)]),
    )


def learned(sentences: Sentences, size: int, iterations: int, floor: float) -> np.ndarray:
    pairs = parallel(sentences)
    source, target = (alignment.counts(pairs, side, size, (EOS,), null=side == 0) for side in (0, 1))
    return alignment.translations(source, target, iterations, floor).toarray()


def textbook(sentences: Sentences, size: int, iterations: int) -> np.ndarray:
    """Word by word, over a dense table; NULL is the last row."""
    table = np.full((size + 1, size), 1 / size)
    for _ in range(iterations):
        expected: dict[tuple[int, int], float] = defaultdict(float)
        for source, target in sentences:
            for word in target:
                total = sum(table[origin, word] for origin in [*source, size])
                for origin in [*source, size]:
                    expected[origin, word] += table[origin, word] / total
        table = np.zeros_like(table)
        for (origin, word), count in expected.items():
            table[origin, word] = count
        table /= np.maximum(table.sum(axis=1, keepdims=True), 1e-30)
    return table


def some_text(count: int, size: int) -> Sentences:
    chance = np.random.default_rng(count)
    return [
        (chance.integers(1, size, chance.integers(1, 7)).tolist(), chance.integers(1, size, 1 + index % 5).tolist())
        for index in range(count)
    ]  # words repeat within a sentence


@pytest.mark.parametrize("iterations", [1, 2, 5])
@pytest.mark.parametrize("cells", [alignment.CELLS, 40, 1])  # all at once, in blocks, row by row
def test_it_learns_what_the_textbook_does(iterations: int, cells: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alignment, "CELLS", cells)
    text = some_text(60, 12)
    np.testing.assert_allclose(learned(text, 12, iterations, 0), textbook(text, 12, iterations), atol=1e-5)


def test_it_finds_out_which_word_is_which() -> None:
    text: Sentences = [([1, 2], [4, 5]), ([1, 3], [4, 6]), ([2, 3], [5, 6]), ([1], [4])]
    table = learned(text, 7, 20, alignment.FLOOR)
    assert table[1:4].argmax(axis=1).tolist() == [4, 5, 6]
    assert (table[1:4].max(axis=1) > 0.8).all()


def test_what_is_dropped_is_small_and_hardly_changes_the_rest() -> None:
    text = some_text(200, 30)
    whole, pruned = learned(text, 30, 4, 0), learned(text, 30, 4, 0.02)
    assert 0 < (pruned > 0).sum() < (whole > 0).sum()
    assert pruned[pruned > 0].min() >= 0.02
    assert np.abs(whole - pruned)[whole > 0.2].max() < 0.1
    assert np.isfinite(pruned).all()


def test_the_end_of_sentence_translates_nothing() -> None:
    pairs = parallel([([3, 3], [2]), ([], [1, 2])])
    assert alignment.counts(pairs, 0, 4, (EOS,), null=True).toarray().tolist() == [[0, 0, 0, 2, 1], [0, 0, 0, 0, 1]]
    assert alignment.counts(pairs, 1, 4, (EOS,)).toarray().tolist() == [[0, 0, 1, 0], [0, 1, 1, 0]]
    assert alignment.counts(pairs, 0, 2, (EOS,)).shape == (2, 4)  # ids beyond the tokenizer's size
