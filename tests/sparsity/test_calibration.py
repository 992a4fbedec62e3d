"""The calibration sample."""

import numpy as np
import pytest
import torch

from tests.sparsity.small_models import Sentences, config, model_of
from tprune.sparsity import calibration, lines

SHAPES = config(d_model=8, heads=1, width=2, ffn=2, depth=1)


def tokens(seed: int, count: int) -> list[tuple[int, ...]]:
    """All pairs of a sample, as source and target tokens without padding."""
    model = model_of(SHAPES)
    found = []
    for inputs, labels in calibration.batches(model, Sentences.random(count, longest=4), seed):
        rows = zip(inputs["input_ids"], inputs["attention_mask"], labels, strict=True)
        found += [
            (*source[mask.bool()].tolist(), -1, *target[target != -100].tolist()) for source, mask, target in rows
        ]
    return found


def test_a_sample_is_seeded_and_no_pair_is_taken_twice() -> None:
    first, again, other = tokens(1, 600), tokens(1, 600), tokens(2, 600)
    assert first == again
    assert sorted(first) != sorted(other)
    everything = tokens(1, 100)
    assert sorted(everything) == sorted(tokens(2, 100))
    assert len(first) == 512 and len(everything) == 100


def test_batches_hold_sentences_of_similar_length() -> None:
    model = model_of(SHAPES)
    totals = [
        (inputs["attention_mask"].sum(dim=1) + (labels != -100).sum(dim=1)).tolist()
        for inputs, labels in calibration.batches(model, Sentences.random(300, longest=30), 0)
    ]
    assert len(totals) > 3
    flat = [total for batch in totals for total in batch]
    assert flat == sorted(flat)


def test_taps_are_where_the_units_act() -> None:
    by_kind = {group.kind: group for group in lines.groups(SHAPES, calibration.TAPPED_KINDS)}
    place = "decoder.layers.0"
    assert [(tap.module, tap.enters) for tap in calibration.taps(by_kind["ffn"])] == [
        (f"{place}.ffn.fc1", False),
        (f"{place}.ffn.fc2", True),
    ]
    assert [(tap.module, tap.enters, tap.reads_source) for tap in calibration.taps(by_kind["head"])] == [
        (f"{place}.cross_attn.q_proj", False, False),
        (f"{place}.cross_attn.k_proj", False, True),
        (f"{place}.cross_attn.v_proj", False, True),
        (f"{place}.cross_attn.o_proj", True, False),
    ]
    assert calibration.output_tap(by_kind["qk"]) is None
    assert calibration.output_tap(by_kind["vo"]) == calibration.Tap(f"{place}.cross_attn.o_proj", True)


def test_hooks_are_gone_after_an_error() -> None:
    model = model_of(SHAPES)
    tap = calibration.Tap("encoder.layers.0.ffn.fc2", True)
    with pytest.raises(KeyError), calibration.tapped(model, [tap]) as seen:
        raise KeyError
    assert not model.get_submodule(tap.module)._forward_hooks
    assert seen == {}


def test_a_move_of_all_keys_changes_no_moment() -> None:
    model, pairs = model_of(SHAPES), Sentences.random(6)
    tap = calibration.Tap("decoder.layers.0.cross_attn.k_proj", False)
    before = calibration.moments(model, [tap], pairs, 0)[tap]
    with torch.no_grad():
        model.get_parameter(f"{tap.module}.bias").add_(3.0)
    after = calibration.moments(model, [tap], pairs, 0)[tap]
    torch.testing.assert_close(after.products, before.products, rtol=1e-4, atol=1e-4)
    assert after.count == before.count == sum(len(source) for source, _ in pairs.pairs)
    assert after.total.abs().max() < 1e-3


def test_a_covariance_far_from_zero_is_that_of_numpy() -> None:
    draw = np.random.default_rng(0)
    batches = [(1000 + draw.normal(size=(50, 6))).astype(np.float32) for _ in range(20)]
    seen = calibration.Moments(6, torch.device("cpu"))
    for rows in batches:
        seen.add(torch.from_numpy(rows))
    wanted = np.cov(np.concatenate(batches).astype(np.float64), rowvar=False, bias=True)
    np.testing.assert_allclose(seen.covariance().numpy(), wanted, rtol=1e-6, atol=1e-8)
