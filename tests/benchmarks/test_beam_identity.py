"""What is compared is what two searches found, and a difference is scored by another way than the search's own."""

import numpy as np
import pytest
import torch

from tests.model.random_models import EOS, generated, ours, padded, sentences
from tprune.benchmarks.beam_identity import compare, score
from tprune.model.engine import Ids, Logits
from tprune.model.search import Search
from tprune.model.torch_engine import State, TorchEngine

KEY = ("pytorch", "fp32")


class Noisy(TorchEngine):
    """An engine that computes something else now and then."""

    def step(self, tokens: Ids, state: State) -> tuple[Logits, State]:
        logits, state = super().step(tokens, state)
        return logits + np.random.standard_normal(logits.shape).astype(np.float32), state


def test_our_search_is_generates() -> None:
    model, ids = ours(4), sentences(30)
    engines = {KEY: (TorchEngine(model), Search.of(model))}
    ((key, found),) = compare(model, engines, ids, 0.6, beams=4, longest=12)
    assert key == KEY
    assert (found["identical_to_generate"], found["differences"], found["sentences"]) == (1.0, [], 30)
    assert found["valid"] == {"ok": True, "reasons": []}


def test_differences_are_counted_and_scored() -> None:
    model, ids = ours(4), sentences(30)
    engines = {KEY: (Noisy(model), Search.of(model))}
    ((_, found),) = compare(model, engines, ids, 1.0, beams=4, longest=12)
    count = len(found["differences"])
    assert count > 3
    assert found["identical_to_generate"] == pytest.approx(1 - count / 30)
    assert found["valid"]["reasons"] == [f"{1 - count / 30:.1%} identical, at least 99% wanted"]
    for one in found["differences"]:
        assert one["gap"] == one["score"] - one["score_generate"]


@pytest.mark.parametrize("length_penalty", [0.6, 1.0])
def test_scores_are_those_that_generate_tells(length_penalty: float) -> None:
    model, ids = ours(4), sentences(12)
    search = Search.of(model, beams=4, length_penalty=length_penalty, max_new_tokens=12)
    source, mask = map(torch.from_numpy, padded(ids))
    told = model.generate(
        source, attention_mask=mask, num_beams=4, length_penalty=length_penalty, max_new_tokens=12, do_sample=False,
        early_stopping=False, output_scores=True, return_dict_in_generate=True,
    ).sequences_scores  # fmt: skip
    targets = generated(model, ids, num_beams=4, length_penalty=length_penalty, max_new_tokens=12)
    assert any(len(target) < 12 for target in targets)
    assert search.eos == EOS
    # padding is no banned token for generate here, but for the score it makes no difference
    found = [score(model, source, target, search) for source, target in zip(ids, targets, strict=True)]
    assert found == pytest.approx(told.tolist(), abs=1e-4)
