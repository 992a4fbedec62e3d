"""The training loop: its losses, schedule and checkpoints, resume, and several processes."""

import json
import math
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional as F

from tests.sparsity.small_models import Sentences, config, logits, model_of
from tprune.config import Learn
from tprune.learn.batches import TokenBatches, collate
from tprune.learn.checkpoints import average
from tprune.learn.evaluate import token_loss
from tprune.learn.trainer import Shrink, fit
from tprune.model.transformer import TPruneForConditionalGeneration

TRAIN, VALID = Sentences.random(60), Sentences.random(10, seed=1)
SMALL = config(depth=1, dropout=0.1)


def learn(**values: Any) -> Learn:
    return Learn(**({"steps": 6, "batch_tokens": 60, "warmup": 2, "checkpoint_every": 2, "precision": "fp32"} | values))


def run(
    scratch: Path,
    settings: Learn,
    shrink: Shrink | None = None,
    **rest: Any,
) -> tuple[TPruneForConditionalGeneration, list[dict[str, float]]]:
    model = model_of(SMALL)
    return model, fit(model, TRAIN, VALID, settings, scratch, shrink=shrink, progress=False, **rest)


def same(one: TPruneForConditionalGeneration, other: TPruneForConditionalGeneration) -> bool:
    return all(torch.equal(tensor, other.state_dict()[name]) for name, tensor in one.state_dict().items())


@pytest.mark.parametrize("distill", [0.0, 0.4])
@pytest.mark.parametrize("accumulate", [1, 3])
def test_the_first_loss_is_that_of_the_first_batches(tmp_path: Path, accumulate: int, distill: float) -> None:
    """Mean over all target tokens of the accumulated batches, each counting the same."""
    teacher = model_of(SMALL, seed=1)
    settings = learn(
        steps=1, accumulate=accumulate, distill=distill, dropout=0.0, temperature=2.0, seed=5, checkpoint_every=1
    )
    _, history = run(tmp_path, settings, teacher=teacher)
    model, total, tokens = model_of(SMALL), 0.0, 0
    for batch in TokenBatches(TRAIN.lengths, 60, accumulate, seed=5):
        inputs = collate([TRAIN[index] for index in batch], pad_id=0, start_id=0)
        labels = inputs.pop("labels")
        with torch.no_grad():
            found, wanted = (each(**inputs, use_cache=False).logits for each in (model, teacher))
        likely, kept = F.log_softmax(found, dim=-1), labels != -100
        smoothed = -(0.9 * likely[kept, labels[kept]] + 0.1 * likely[kept].mean(dim=-1)).sum()
        p, q = F.log_softmax(wanted / 2, dim=-1)[kept], F.log_softmax(found / 2, dim=-1)[kept]
        total += ((1 - distill) * smoothed - distill * 4 * (p.exp() * q).sum()).item()
        tokens += int(kept.sum())
    assert [entry["loss"] for entry in history if "loss" in entry] == pytest.approx([total / tokens], rel=1e-4)


@pytest.mark.parametrize("schedule", ["inverse_sqrt", "linear", "cosine", "constant"])
def test_the_penalty_is_called_with_the_scheduled_learning_rate(tmp_path: Path, schedule: str) -> None:
    seen: list[float] = []
    settings = learn(steps=8, warmup=3, learning_rate=0.02, schedule=schedule, checkpoint_every=100)
    run(tmp_path, settings, shrink=seen.append)

    def rate(step: int) -> float:
        if step < 3:
            return step / 3
        through = (step - 3) / 5
        return {
            "inverse_sqrt": math.sqrt(3 / step), "linear": 1 - through,
            "cosine": (1 + math.cos(math.pi * through)) / 2, "constant": 1.0,
        }[schedule]  # fmt: skip

    assert seen == pytest.approx([0.02 * rate(step) for step in range(8)], abs=1e-12)


@pytest.mark.parametrize("ramp", [0.0, 0.5, 1.0])
def test_the_penalty_grows_from_nothing_while_it_ramps(tmp_path: Path, ramp: float) -> None:
    seen: list[float] = []
    settings = learn(steps=8, warmup=0, learning_rate=0.02, schedule="constant", checkpoint_every=100)
    run(tmp_path, settings, shrink=seen.append, ramp=ramp)
    shares: dict[float, list[float]] = {
        0.0: [1.0] * 8,
        0.5: [0, 1 / 4, 2 / 4, 3 / 4, 1, 1, 1, 1],
        1.0: [step / 8 for step in range(8)],
    }
    assert seen == pytest.approx([0.02 * share for share in shares[ramp]], abs=1e-12)


def test_rewound_learning_rates_are_the_end_of_the_whole_schedule(tmp_path: Path) -> None:
    whole: list[float] = []
    run(tmp_path / "whole", learn(steps=10, warmup=3, schedule="cosine", checkpoint_every=100), shrink=whole.append)
    end: list[float] = []
    settings = learn(steps=4, warmup=3, schedule="cosine", checkpoint_every=2)
    with pytest.raises(PowerError):
        run(tmp_path / "end", settings, shrink=off_at(4), skip=6)
    run(tmp_path / "end", settings, shrink=end.append, skip=6)  # goes on after the second step
    assert end == pytest.approx(whole[8:], rel=1e-12)
    assert whole[8] > whole[9] > 0


@pytest.mark.parametrize("killed", [False, True])
def test_the_best_checkpoint_is_that_of_the_least_validation_loss(tmp_path: Path, killed: bool) -> None:
    """A learning rate that ruins the model in the end: the last one is not the best."""
    settings = learn(steps=12, warmup=0, schedule="constant", learning_rate=0.15, label_smoothing=0.0)
    last, history = run(tmp_path / "last", settings)
    if killed:
        with pytest.raises(PowerError):
            run(tmp_path / "best", settings, shrink=off_at(11), best=True)
    best, again = run(tmp_path / "best", settings, best=True)
    losses = [entry["eval_loss"] for entry in history if "eval_loss" in entry]
    assert [entry["eval_loss"] for entry in again if "eval_loss" in entry] == pytest.approx(losses)
    assert min(losses) < losses[-1]
    assert token_loss(best, VALID) == pytest.approx(min(losses), rel=1e-6)
    assert token_loss(last, VALID) == pytest.approx(losses[-1], rel=1e-6)


def test_the_penalty_acts_outside_adams_moments(tmp_path: Path) -> None:
    """With a learning rate that moves nothing else, only the penalty moves."""
    model = model_of(SMALL)
    block = model.get_parameter("encoder.layers.0.ffn.fc1.weight")
    before = block.detach().clone()

    def shrink(_: float) -> None:
        with torch.no_grad():
            block.mul_(0.5)

    settings = learn(learning_rate=1e-12, checkpoint_every=100)
    fit(model, TRAIN, VALID, settings, tmp_path, shrink=shrink, progress=False)
    torch.testing.assert_close(block.detach(), before * 0.5**6)


def test_average_is_the_mean_of_the_last_checkpoints(tmp_path: Path) -> None:
    model, _ = run(tmp_path, learn(steps=9, average=3, learning_rate=0.01))
    steps = sorted(int(path.name.removeprefix("checkpoint-")) for path in tmp_path.glob("checkpoint-*"))
    assert steps == [6, 8, 9]  # the end is a checkpoint too
    weights = [load_file(tmp_path / f"checkpoint-{step}" / "model.safetensors") for step in steps]
    for name, tensor in model.state_dict().items():
        expected = sum(each[name].double() for each in weights) / 3
        assert torch.equal(tensor, expected.float()), name
    assert not torch.equal(weights[0]["embed.weight"], weights[1]["embed.weight"])
    (tmp_path / "checkpoint-9" / "whole").unlink()
    found = average(tmp_path, 2)["embed.weight"]
    torch.testing.assert_close(found, (weights[0]["embed.weight"] + weights[1]["embed.weight"]) / 2)


def test_a_short_run_has_as_many_checkpoints_as_are_averaged(tmp_path: Path) -> None:
    model, history = run(tmp_path, learn(steps=7, average=3, learning_rate=0.01, checkpoint_every=500))
    assert [entry["step"] for entry in history if "eval_loss" in entry] == [2, 4, 6, 7]
    weights = [load_file(tmp_path / f"checkpoint-{step}" / "model.safetensors")["embed.weight"] for step in (4, 6, 7)]
    torch.testing.assert_close(model.get_parameter("embed.weight").detach(), sum(weights, torch.zeros(1)) / 3)


def test_the_result_is_in_eval_mode_with_its_own_dropout(tmp_path: Path) -> None:
    rates: set[float] = set()
    model = model_of(SMALL)
    fit(
        model, TRAIN, VALID, learn(steps=1, dropout=0.37), tmp_path, progress=False,
        shrink=lambda _: rates.update({model.config.dropout, model.decoder.layers[0].ffn.dropout}),  # type: ignore[union-attr]
    )  # fmt: skip
    assert rates == {0.37}
    assert not model.training
    assert {model.config.dropout, model.encoder.layers[0].self_attn.dropout} == {0.1}  # type: ignore[union-attr]


def test_what_is_watched_is_in_the_history_of_every_evaluation(tmp_path: Path) -> None:
    counts = iter(range(100))
    _, history = run(tmp_path, learn(steps=5), watch=lambda: {"effective_ffn": float(next(counts))})
    assert [entry["effective_ffn"] for entry in history if "eval_loss" in entry] == [0, 1, 2]
    assert all("effective_ffn" not in entry for entry in history if "eval_loss" not in entry)


def test_history_and_tensorboard(tmp_path: Path) -> None:
    model, history = run(tmp_path / "scratch", learn(steps=5), logs=tmp_path / "logs")
    assert [entry["step"] for entry in history if "loss" in entry] == [2, 4]
    assert [entry["step"] for entry in history if "eval_loss" in entry] == [2, 4, 5]
    assert all({"loss", "learning_rate"} <= entry.keys() or "eval_loss" in entry for entry in history)
    assert history[-1]["eval_loss"] == pytest.approx(token_loss(model, VALID), rel=1e-6)
    files = list((tmp_path / "logs").rglob("events.out.tfevents.*"))
    assert len(files) == 1
    assert files[0].stat().st_size > 500


class PowerError(Exception):
    """The power goes off."""


def off_at(step: int) -> Shrink:
    calls = []

    def shrink(learning_rate: float) -> None:
        calls.append(learning_rate)
        if len(calls) == step:
            raise PowerError

    return shrink


@pytest.mark.parametrize(("accumulate", "truncated"), [(1, False), (2, True)])
def test_a_killed_run_ends_with_the_same_bits(tmp_path: Path, accumulate: int, truncated: bool) -> None:
    settings = learn(steps=9, average=2, accumulate=accumulate, dropout=0.2, distill=0.2)
    teacher = model_of(SMALL, seed=1)
    whole, history = run(tmp_path / "undisturbed", settings, shrink=lambda _: None, teacher=teacher)
    scratch = tmp_path / "disturbed"
    with pytest.raises(PowerError):
        run(scratch, settings, shrink=off_at(random.randint(5, 8)), teacher=teacher)
    if truncated:  # the last checkpoint was being written when the power went off
        last = max(scratch.glob("checkpoint-*"), key=lambda path: int(path.name.removeprefix("checkpoint-")))
        (last / "whole").unlink()
        weights = last / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:100])
        (last / "trainer_state.json").unlink()
    torch.manual_seed(random.randint(0, 1000))  # whatever the generator says now
    resumed, again = run(scratch, settings, shrink=lambda _: None, teacher=teacher)
    assert same(whole, resumed)
    assert json.dumps(again) == json.dumps(history)  # the losses that it writes down, and in their order


def test_a_finished_run_is_not_trained_again(tmp_path: Path) -> None:
    settings = learn()
    model, history = run(tmp_path, settings)
    again, known = run(tmp_path, settings, shrink=off_at(1))
    assert same(model, again)
    assert known == history


def test_without_a_whole_checkpoint_training_starts_over(tmp_path: Path) -> None:
    settings = learn(steps=3, checkpoint_every=3)
    expected, _ = run(tmp_path / "one", settings)
    (tmp_path / "two" / "checkpoint-3").mkdir(parents=True)
    (tmp_path / "two" / "checkpoint-3" / "optimizer.pt").write_bytes(b"half")
    found, _ = run(tmp_path / "two", settings)
    assert same(expected, found)


def test_the_seed_decides(tmp_path: Path) -> None:
    models = [run(tmp_path / str(index), learn(steps=3, seed=seed))[0] for index, seed in enumerate((1, 1, 2))]
    assert same(models[0], models[1])
    assert not same(models[0], models[2])


def divergence(student: TPruneForConditionalGeneration, teacher: TPruneForConditionalGeneration) -> float:
    p, q = F.log_softmax(logits(teacher), dim=-1), F.log_softmax(logits(student), dim=-1)
    return (p.exp() * (p - q)).sum(dim=-1).mean().item()


def test_distillation_lowers_the_divergence_from_the_teacher(tmp_path: Path) -> None:
    teacher, student = model_of(SMALL, seed=1), model_of(SMALL)
    before = divergence(student, teacher)
    settings = learn(steps=40, distill=1.0, learning_rate=3e-3, checkpoint_every=100, dropout=0.0)
    frozen = {name: tensor.clone() for name, tensor in teacher.state_dict().items()}
    fit(student, TRAIN, VALID, settings, tmp_path, teacher=teacher, progress=False)
    assert divergence(student, teacher) < 0.7 * before
    assert all(torch.equal(frozen[name], tensor) for name, tensor in teacher.state_dict().items())
