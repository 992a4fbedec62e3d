"""A teacher that is asked once: what it says is what it would say in every step, but for its least likely tokens."""

import errno
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from tests.learn.test_trainer import SMALL, TRAIN, PowerError, learn, off_at, run, same
from tests.sparsity.small_models import VOCABULARY, model_of
from tprune.learn import soft
from tprune.learn.batches import collate
from tprune.learn.soft import SoftTargets

TEACHER = model_of(SMALL, seed=1)


def asked(folder: Path, count: int, temperature: float = 1.0) -> SoftTargets:
    folder.mkdir(exist_ok=True)
    soft.prepare(folder, TEACHER, TRAIN, count, temperature, 60, lambda _: None)
    return soft.read(folder, TRAIN)


def test_the_likeliest_tokens_of_every_target_stand_in_the_corpus_order(tmp_path: Path) -> None:
    found = asked(tmp_path, 4, temperature=1.5)
    assert found.ids.shape == (sum(len(TRAIN[index][1]) for index in range(len(TRAIN))), 4)
    for index in range(len(TRAIN)):
        inputs = collate([TRAIN[index]], pad_id=0, start_id=0)
        length = inputs.pop("labels").shape[1]
        with torch.no_grad():
            scores = TEACHER(**inputs, use_cache=False).logits[0].double() / 1.5
        ids, probabilities = found.of(index)
        assert ids.shape == (length, 4)
        for place in range(length):
            total = sum(math.exp(score) for score in scores[place].tolist())
            expected = [math.exp(scores[place, token].item()) / total for token in ids[place].tolist()]
            assert probabilities[place].tolist() == pytest.approx(expected, rel=2e-3)
            others = set(range(VOCABULARY)) - set(ids[place].tolist())
            assert scores[place, list(others)].max() <= scores[place, int(ids[place, -1])] + 1e-5


def test_a_batch_has_each_targets_distributions_where_its_tokens_are(tmp_path: Path) -> None:
    found = asked(tmp_path, 3)
    rows = soft.SoftPairs(TRAIN, found)
    chosen = [3, 0, 41, 7]
    batch = soft.collate_soft([rows[index] for index in chosen], pad_id=0, start_id=0)
    plain = collate([TRAIN[index] for index in chosen], pad_id=0, start_id=0)
    lengths = {len(TRAIN[index][1]) for index in chosen}
    assert len(lengths) > 1
    assert all(torch.equal(batch[name], tensor) for name, tensor in plain.items())
    for row, index in enumerate(chosen):
        ids, probabilities = found.of(index)
        for place in range(max(lengths)):
            there = place < len(ids)
            assert batch["teacher_ids"][row, place].tolist() == (ids[place].tolist() if there else [0] * 3)
            assert batch["teacher_probabilities"][row, place].tolist() == (
                probabilities[place].tolist() if there else [0.0] * 3
            )


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="skipped, needs posix_fallocate")
def test_a_full_disk_is_an_error_before_anything_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match="No space left"):
        soft.prepare(tmp_path, Counted(fail_at=1), TRAIN, 5, 1.0, 60, lambda _: None)  # type: ignore[arg-type]


def test_what_is_left_is_spread_evenly() -> None:
    ids, probabilities = torch.tensor([[[4, 1]]]), torch.tensor([[[0.5, 0.2]]])
    assert soft.dense(ids, probabilities, 5).flatten().tolist() == pytest.approx([0.1, 0.2, 0.1, 0.1, 0.5])
    whole = torch.tensor([[[0.7, 0.3005]]])  # float16 may come out above 1
    assert soft.dense(torch.tensor([[[0, 1]]]), whole, 2).flatten().tolist() == pytest.approx([0.7, 0.3005])
    assert soft.dense(ids, whole, 3 + 2).min() == 0


def test_with_all_tokens_it_learns_what_it_learns_from_a_teacher_at_hand(tmp_path: Path) -> None:
    settings = learn(distill=0.7, temperature=2.0, dropout=0.0)
    _, asked_often = run(tmp_path / "often", settings, teacher=TEACHER)
    _, asked_once = run(tmp_path / "once", settings, teacher=TEACHER, soft_targets=10 * VOCABULARY)
    for name in ("loss", "eval_loss"):
        expected = [entry[name] for entry in asked_often if name in entry]
        assert [entry[name] for entry in asked_once if name in entry] == pytest.approx(expected, rel=1e-4)


def test_with_few_tokens_it_comes_close(tmp_path: Path) -> None:
    """Closer to the teacher than with the labels alone."""
    found = {}
    for name, distill, count in (("labels", 0.0, 0), ("few", 1.0, 6), ("all", 1.0, 0)):
        settings = learn(steps=60, learning_rate=3e-3, distill=distill, dropout=0.0, checkpoint_every=60)
        student, _ = run(tmp_path / name, settings, teacher=TEACHER, soft_targets=count)
        inputs = collate([TRAIN[index] for index in range(20)], pad_id=0, start_id=0)
        kept = inputs.pop("labels") != -100
        with torch.no_grad():
            p, q = (F.log_softmax(each(**inputs, use_cache=False).logits[kept], dim=-1) for each in (TEACHER, student))
        found[name] = (p.exp() * (p - q)).sum(dim=-1).mean().item()
    assert found["all"] < found["few"] < found["labels"]


class Counted:
    """The teacher, whose calls are counted, and which fails at one of them."""

    def __init__(self, fail_at: int = -1) -> None:
        self.calls, self.fail_at = 0, fail_at

    def __getattr__(self, name: str) -> Any:
        return getattr(TEACHER, name)

    def __call__(self, **inputs: Any) -> Any:
        self.calls += 1
        if self.calls == self.fail_at:
            raise PowerError
        return TEACHER(**inputs)


def test_a_kill_costs_what_was_not_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(soft, "BETWEEN_SAVES", 3)
    expected = asked(tmp_path / "undisturbed", 5)
    (tmp_path / "disturbed").mkdir()
    first, second, third = Counted(fail_at=9), Counted(), Counted()
    with pytest.raises(PowerError):
        soft.prepare(tmp_path / "disturbed", first, TRAIN, 5, 1.0, 60, lambda _: None)  # type: ignore[arg-type]
    said: list[str] = []
    for teacher in (second, third):
        soft.prepare(tmp_path / "disturbed", teacher, TRAIN, 5, 1.0, 60, said.append)  # type: ignore[arg-type]
    batches = int(said[-1].split()[-2])
    assert (second.calls, third.calls) == (batches - 6, 0)
    found = soft.read(tmp_path / "disturbed", TRAIN)
    assert np.array_equal(found.ids, expected.ids)
    assert np.array_equal(found.probabilities, expected.probabilities)


def test_a_killed_training_goes_on_without_asking_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = learn(steps=9, distill=0.5)
    whole, _ = run(tmp_path / "undisturbed", settings, teacher=TEACHER, soft_targets=5)
    with pytest.raises(PowerError):
        run(tmp_path / "disturbed", settings, shrink=off_at(5), teacher=TEACHER, soft_targets=5)
    mute = model_of(SMALL, seed=1)
    monkeypatch.setattr(mute, "forward", lambda **_: pytest.fail("asked again"))
    resumed, _ = run(tmp_path / "disturbed", settings, teacher=mute, soft_targets=5)
    assert same(whole, resumed)


def test_without_a_teacher_there_is_nothing_to_ask(tmp_path: Path) -> None:
    plain, _ = run(tmp_path / "plain", learn())
    with_count, _ = run(tmp_path / "count", learn(), soft_targets=5)
    assert same(plain, with_count)
