"""The searches against `generate`, and against what they mean by definition."""

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from tests.model.random_models import EOS, PAD, VOCABULARY, generated, ours, padded, sentences
from tprune.errors import InputError, ModelError
from tprune.model.decode import beam, greedy, highest, translate
from tprune.model.engine import Ids, Logits
from tprune.model.search import Search
from tprune.model.torch_engine import TorchEngine

CASES = range(8)


class Counting(TorchEngine):
    """Counts the rows that were computed."""

    rows = 0

    def step(self, tokens: Ids, state: Any) -> tuple[Logits, Any]:
        self.rows += len(tokens)
        return super().step(tokens, state)


class Table:
    """An engine whose next token depends on the newest token only; every source is the same."""

    def __init__(self, probabilities: list[list[float]]) -> None:
        self.logits = np.log(np.array(probabilities, dtype=np.float32) + 1e-30)

    def encode(self, source: Ids, mask: Ids) -> None:
        return None

    def step(self, tokens: Ids, state: None) -> tuple[Logits, None]:
        return self.logits[tokens], None

    def reorder(self, state: None, rows: Ids) -> None:
        return None


@pytest.mark.parametrize("case", CASES)
def test_greedy_takes_the_best_token_of_a_full_recomputation(case: int) -> None:
    model, ids = ours(case), sentences(6)
    expected = []
    for sentence in ids:
        target = [EOS]
        while len(target) <= 15:
            with torch.no_grad():
                scores = model(
                    torch.tensor([sentence]), decoder_input_ids=torch.tensor([target]), use_cache=False
                ).logits[0, -1]
            scores[PAD] = -torch.inf
            target.append(int(scores.argmax()))
            if target[-1] == EOS:
                break
        expected.append([token for token in target if token != EOS])
    assert greedy(TorchEngine(model), *padded(ids), Search.of(model, max_new_tokens=15)) == expected


@pytest.mark.parametrize("beams", [1, 2, 4, 5])
@pytest.mark.parametrize("case", CASES)
def test_search_finds_what_generate_finds(case: int, beams: int) -> None:
    model, ids = ours(case), sentences(24)
    search = Search.of(model, beams=beams, max_new_tokens=16)
    found = translate(TorchEngine(model), ids, search, batch_size=10)
    assert found == generated(model, ids, num_beams=beams, max_new_tokens=16)
    assert len({tuple(translation) for translation in found}) > 1


@pytest.mark.parametrize("length_penalty", [0.0, 0.6, 2.0])
def test_length_penalty_is_that_of_generate(length_penalty: float) -> None:
    model, ids = ours(3), sentences(24)
    search = Search.of(model, beams=4, length_penalty=length_penalty, max_new_tokens=16)
    expected = generated(model, ids, num_beams=4, length_penalty=length_penalty, max_new_tokens=16)
    assert translate(TorchEngine(model), ids, search) == expected


@pytest.mark.parametrize("beams", [1, 4])
def test_forced_tokens_are_those_of_generate(beams: int) -> None:
    model, ids = ours(5), sentences(24)
    forced = {"forced_bos_token_id": 7, "forced_eos_token_id": EOS, "suppress_tokens": [9, 11]}
    model.generation_config.update(**forced)
    search = Search.of(model, beams=beams, max_new_tokens=6)
    assert (search.forced_bos, search.forced_eos, search.banned) == (7, EOS, (PAD, 9, 11))
    found = translate(TorchEngine(model), ids, search)
    assert found == generated(model, ids, num_beams=beams, max_new_tokens=6)
    assert all(translation[0] == 7 and len(translation) <= 5 for translation in found)
    assert not {9, 11} & set(itertools.chain(*found))


def test_first_self_attention_may_be_gone() -> None:
    first = {"heads": 0, "qk": 4, "v": 4, "scale": 0.5}
    some = first | {"heads": 2}
    shapes = [{"self_attn": first, "cross_attn": some, "ffn": 8}, {"self_attn": some, "cross_attn": first, "ffn": 0}]
    model, ids = ours(1, decoder_shapes=shapes), sentences(24)
    for beams in (1, 4):
        search = Search.of(model, beams=beams, max_new_tokens=16)
        assert translate(TorchEngine(model), ids, search) == generated(model, ids, num_beams=beams, max_new_tokens=16)


@pytest.mark.parametrize("beams", [1, 4])
@pytest.mark.parametrize("case", CASES)
def test_a_batch_translates_each_sentence_as_if_alone(case: int, beams: int) -> None:
    model, ids = ours(case), sentences(9)
    search = Search.of(model, beams=beams)  # a limit of its own for each sentence
    alone = [translate(TorchEngine(model), [sentence], search)[0] for sentence in ids]
    assert translate(TorchEngine(model), ids, search, batch_size=9) == alone


def test_beam_search_finds_the_best_hypothesis_where_greedy_does_not() -> None:
    # 0 start, 1 eos, 2 and 3 words: 2 is likelier at first, 3 surely ends after one word
    table = Table([[0, 0, 0.6, 0.4], [0, 1, 0, 0], [0, 0.4, 0.3, 0.3], [0, 1, 0, 0]])
    search = Search(start=0, eos=1, pad=0, limit=4)
    source = np.array([[2, 1]])
    assert greedy(table, source, np.ones_like(source), search) == [[2]]
    assert beam(table, source, np.ones_like(source), replace(search, beams=2)) == [[3]]


def test_finished_sentences_are_not_computed_on() -> None:
    model, ids = ours(3), sentences(20)
    search = Search.of(model, max_new_tokens=30)
    engine = Counting(model)
    lengths = [min(len(found) + 1, 30) for found in greedy(engine, *padded(ids), search)]  # with eos, if there is one
    assert min(lengths) < max(lengths)
    assert engine.rows == sum(lengths)
    engine = Counting(model)
    beam(engine, *padded(ids), replace(search, beams=4))
    assert engine.rows < 20 * 4 * 30


def test_max_length_follows_the_source_up_to_the_limit() -> None:
    search = Search(start=0, eos=1, pad=2, limit=60)
    assert [search.max_length(length) for length in (1, 3, 10, 33, 34, 60)] == [11, 14, 25, 59, 60, 60]
    assert replace(search, max_new_tokens=7).max_length(30) == 7
    assert replace(search, length_factor=0.5, length_extra=2).max_length(9) == 6
    assert [search.is_cut(10, length) for length in (24, 25)] == [False, True]
    assert [replace(search, forced_eos=1).is_cut(10, length) for length in (23, 24)] == [False, True]
    assert replace(search, max_new_tokens=99).max_length(30) == 60


def test_empty_sentences_have_empty_translations_and_order_is_kept() -> None:
    model, ids = ours(2), sentences(7)
    done: list[int] = []
    search = Search.of(model, max_new_tokens=5)
    found = translate(TorchEngine(model), [[], *ids, [EOS]], search, batch_size=3, progress=done.append)
    assert found == [[], *greedy(TorchEngine(model), *padded(ids), search), []]
    assert done == [2, 3, 3, 1]
    assert translate(TorchEngine(model), [], search) == []


def test_too_long_sources_are_named() -> None:
    model = ours(2)
    with pytest.raises(InputError) as raised:
        translate(TorchEngine(model), [[5, EOS], [5] * 41, [5] * 40, [5] * 50], Search.of(model))
    assert str(raised.value) == (
        "source longer than the model takes · sentence index 1: 41 tokens; sentence index 3: 50 tokens · wanted at "
        "most 40 tokens each · split or drop these sentences; where this is a bundle, export with a larger "
        "export.max_source"
    )
    longest = translate(TorchEngine(model), [[5] * 40], Search.of(model))[0]
    assert len(longest) <= 40


def test_a_bundles_limits_are_told_apart() -> None:
    search = Search.of(ours(2), limit=3, source_limit=6)
    assert all(len(found) <= 3 for found in translate(TorchEngine(ours(2)), [[5] * 6, [6] * 4], search))
    with pytest.raises(InputError) as raised:
        translate(TorchEngine(ours(2)), [[5] * 7], search)
    assert str(raised.value) == (
        "source longer than the model takes · sentence index 0: 7 tokens · wanted at most 6 tokens each · split or "
        "drop these sentences; where this is a bundle, export with a larger export.max_source"
    )


def test_of_many_too_long_sources_a_few_are_named() -> None:
    with pytest.raises(InputError) as raised:
        translate(TorchEngine(ours(2)), [[5] * 41] * 5000, Search.of(ours(2)))
    assert "; sentence index 4: 41 tokens; and 4995 more · wanted" in str(raised.value)
    assert len(str(raised.value)) < 400


def test_a_diverged_model_is_an_error() -> None:
    model = ours(2)
    with torch.no_grad():
        model.embed.weight[5] = torch.nan
    for beams in (1, 3):
        with pytest.raises(ModelError, match="output is not a number"):
            translate(TorchEngine(model), [[5, EOS]], Search.of(model, beams=beams))


def test_a_beam_wider_than_the_vocabulary_works() -> None:
    model, ids = ours(4), sentences(3)
    found = translate(TorchEngine(model), ids, Search.of(model, beams=VOCABULARY + 1, max_new_tokens=3))
    assert len(found) == 3


@pytest.mark.parametrize("case", range(60))
def test_the_highest_of_a_row_are_those_of_sorting_it(case: int) -> None:
    draw = np.random.default_rng(case)
    rows, columns = int(draw.integers(1, 8)), int(draw.integers(1, 3000))
    wide = int(draw.integers(1, min(columns, 40) + 1))
    scores = draw.normal(size=(rows, columns)).astype(np.float32)
    if case % 3 == 1:
        scores = np.round(scores)  # many are equal
    if case % 3 == 2:
        scores[:, draw.random(columns) < 0.95] = -np.inf  # as where a shortlist leaves out the others
    found = highest(scores, wide)
    assert all(len(set(row)) == wide for row in found.tolist()), "a column twice"
    best = np.take_along_axis(scores, found, axis=1)
    np.testing.assert_array_equal(np.sort(best, axis=1), np.sort(scores, axis=1)[:, columns - wide :])
