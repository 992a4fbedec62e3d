"""A trimmed vocabulary: the same logits for the tokens that are kept, and the same translations."""

import copy
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.artifacts import error_of
from tests.model.random_models import EOS, PAD, VOCABULARY, ours
from tests.sparsity import small_models
from tests.sparsity.small_models import configs, model_of, plans
from tprune.errors import PlanError
from tprune.model import checkpoint
from tprune.model.decode import _padded, translate
from tprune.model.search import Search
from tprune.model.shape import TPruneConfig
from tprune.model.torch_engine import TorchEngine
from tprune.model.transformer import TPruneForConditionalGeneration
from tprune.sparsity import cost, plan, surgery, vocabulary

SPECIAL = {0, 1}


def some(draw: st.DrawFn, tokens: set[int], always: set[int]) -> tuple[int, ...]:
    return tuple(sorted(draw(st.sets(st.sampled_from(sorted(tokens)))) | always))


@st.composite
def vocabularies(draw: st.DrawFn, shapes: TPruneConfig) -> dict[str, tuple[int, ...]]:
    size = small_models.VOCABULARY
    read = some(draw, set(range(size)), SPECIAL)
    keep = {"vocab": read} if draw(st.booleans()) else {}
    if shapes.target_vocab_size is not None or draw(st.booleans()):
        # with one vocabulary, what can be said is among what can be read, whether the plan says so or not
        keep["output"] = some(draw, set(range(size)), SPECIAL)
    return keep


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_the_kept_tokens_have_the_masked_models_logits(data: st.DataObject) -> None:
    shapes = data.draw(configs())
    widths = data.draw(plans(shapes))
    keep = data.draw(vocabularies(shapes))
    chosen = plan.make("drawn", shapes, {**widths.keep, **keep}, {})
    model = model_of(shapes)
    cut, masked = surgery.prune(model, chosen), surgery.mask(model, chosen)
    # by hand: special tokens, then what can be said, then the rest, each rising
    everything = set(range(small_models.VOCABULARY))
    read, said = set(keep.get("vocab", everything)), set(keep.get("output", everything))
    if shapes.target_vocab_size is None:
        said &= read
        order = [0, 1, *sorted(said - SPECIAL), *sorted(read - said)]
        spoken = order[: len(said)]
    else:
        order, spoken = [0, 1, *sorted(read - SPECIAL)], [0, 1, *sorted(said - SPECIAL)]
    assert plan.tokens(shapes, chosen) == tuple(order) or not keep
    source = torch.randint(0, len(order), (3, 6))
    target = torch.randint(0, len(spoken) if shapes.target_vocab_size else len(order), (3, 5))
    old_target = torch.tensor(spoken if shapes.target_vocab_size else order)[target]
    with torch.no_grad():
        got = cut(source, decoder_input_ids=target).logits
        wanted = masked(torch.tensor(order)[source], decoder_input_ids=old_target).logits
    assert got.shape == (3, 5, len(spoken))
    assert (got - wanted[:, :, spoken]).abs().max() < 1e-5
    assert cost.total(cut.config, "parameters") == cut.num_parameters()


SENTENCES = [[*(3 + (7 * i + 5 * j) % 20 for j in range(1 + i % 9)), EOS] for i in range(40)]


Model = TPruneForConditionalGeneration


def trimmed(seed: int, **fixed: Any) -> tuple[Model, Model, list[int]]:
    """A model that has no hope for some tokens, itself without them, and the old ids in their new order."""
    model = ours(seed, target_vocab_size=None, **fixed)
    read = tuple(range(23))  # SENTENCES hold no others
    said = (PAD, EOS, *range(4, 23, 2))
    with torch.no_grad():
        assert model.output_bias is not None
        model.output_bias[[token for token in range(VOCABULARY) if token not in said]] = -1e4
    chosen = plan.make("trimmed", model.config, {"vocab": read, "output": said}, {})
    return model, surgery.prune(model, chosen), list(plan.tokens(model.config, chosen))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("beams", [1, 3])
def test_translations_stay_when_nobody_would_say_what_is_gone(seed: int, beams: int) -> None:
    model, smaller, order = trimmed(seed)
    assert smaller.config.output_size == 12 < len(order) == 23 < VOCABULARY
    given = [[order.index(token) for token in row] for row in SENTENCES]
    found = translate(TorchEngine(smaller), given, Search.of(smaller, beams=beams))
    assert [[order[token] for token in row] for row in found] == translate(
        TorchEngine(model), SENTENCES, Search.of(model, beams=beams)
    )
    assert any(found)


@pytest.mark.parametrize("beams", [1, 2])
def test_generate_finds_what_the_searches_find(beams: int) -> None:
    _, smaller, order = trimmed(1, tie_output=True)
    given = [[order.index(token) for token in row] for row in SENTENCES]
    search = Search.of(smaller, beams=beams, max_new_tokens=8)
    settings = {"num_beams": beams, "early_stopping": False, "length_penalty": 1.0} if beams > 1 else {}
    assert (search.pad, search.eos) == (0, 1)
    source, mask = _padded(given, search.pad)
    rows = smaller.generate(
        torch.from_numpy(source), attention_mask=torch.from_numpy(mask), do_sample=False, max_new_tokens=8, **settings
    )[:, 1:].tolist()
    ends = [row[: row.index(search.eos)] if search.eos in row else row for row in rows]
    found = [[token for token in row if token != search.pad] for row in ends]
    assert found == translate(TorchEngine(smaller), given, search)


def test_token_ids_of_all_settings_move_along(tmp_path: Any) -> None:
    model = model_of(small_models.config())
    model.config.forced_bos_token_id = model.generation_config.forced_bos_token_id = 9
    model.generation_config.forced_eos_token_id = 1
    model.generation_config.bad_words_ids = [[0], [4, 9], [9, 1]]
    model.generation_config.suppress_tokens = [7, 5]
    chosen = plan.make("t", model.config, {"vocab": (0, 1, 3, 7, 9), "output": (0, 1, 7, 9)}, {})
    smaller = surgery.prune(model, chosen)
    assert plan.tokens(model.config, chosen) == (0, 1, 9, 7, 3)
    assert (smaller.config.vocab_size, smaller.config.output_vocab_size, smaller.config.output_size) == (5, 4, 4)
    said = smaller.generation_config
    assert (smaller.config.forced_bos_token_id, said.forced_bos_token_id, said.forced_eos_token_id) == (2, 2, 1)
    assert said.bad_words_ids == [[0], [2, 1]]
    assert said.suppress_tokens == [3]
    checkpoint.save(smaller, tmp_path)
    again = checkpoint.load(tmp_path)
    assert again.config.output_vocab_size == 4
    tokens = torch.tensor([[3, 2, 1]])
    with torch.no_grad():
        assert torch.equal(
            again(tokens, decoder_input_ids=tokens).logits, smaller(tokens, decoder_input_ids=tokens).logits
        )
    model.generation_config.forced_eos_token_id = 11
    with pytest.raises(PlanError) as caught:
        surgery.prune(model, chosen)
    assert str(caught.value) == (
        "plan t: the model's generation settings need a token that is not kept · got forced_eos_token_id 11 · "
        "keep it in `vocab` and `output`"
    )


def test_trimming_twice_is_trimming_once() -> None:
    model = model_of(small_models.config(output_bias=True, tie_output=False))
    once = surgery.prune(model, plan.make("a", model.config, {"vocab": (0, 1, 4, 6, 8, 9), "output": (0, 1, 6)}, {}))
    twice = surgery.prune(model, plan.make("a", model.config, {"output": (0, 1, 2, 6)}, {}))
    order = plan.tokens(model.config, plan.make("a", model.config, {"output": (0, 1, 2, 6)}, {}))
    keep = {"vocab": tuple(sorted(order.index(token) for token in (0, 1, 4, 6, 8, 9))), "output": (0, 1, 3)}
    twice = surgery.prune(twice, plan.make("b", twice.config, keep, {}))
    assert twice.config.to_dict() == once.config.to_dict()
    assert all(torch.equal(twice.state_dict()[name], tensor) for name, tensor in once.state_dict().items())


def test_labels_are_learned_below_the_output_size() -> None:
    model = model_of(small_models.config())
    smaller = surgery.prune(model, plan.make("a", model.config, {"output": (0, 1, 5, 6)}, {}))
    source, labels = torch.tensor([[9, 3, 1]]), torch.tensor([[2, 3, 1]])
    smaller(source, labels=labels).loss.backward()
    assert smaller.embed.weight.grad is not None
    assert bool(smaller.embed.weight.grad[:4].any(dim=1).all())
    assert copy.deepcopy(smaller).num_parameters() == model.num_parameters()


def test_a_vocabulary_for_each_side_is_refused() -> None:
    assert error_of(vocabulary.kept, small_models.config(target_vocab_size=9), [], 1) == (
        "the vocabulary cannot be trimmed · got a vocabulary for each side · wanted one for both sides · "
        "leave the vocabulary as it is"
    )
