"""Targets in rounds, and what the teacher's translations are for: plans, budgets and parents of a small run."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.command import mini_recipe
from tprune import artifact, pipeline, rounds, settings
from tprune.config import Target
from tprune.json_file import read_json
from tprune.model import checkpoint
from tprune.sparsity import cost, lines, plan

TARGETS = """targets=[
{name="once", keep=0.8, grid=4, score="magnitude"},
{name="plain", keep=0.64, rounds=2, grid=4, score="magnitude", drop_decoder_layers=1},
{name="hoyer", keep=0.64, rounds=2, grid=4}]""".replace("\n", "")
OVERRIDES = [
    TARGETS, "distill.on=true", "distill.beam=2", "between.steps=3", "between.batch_tokens=256",
    "between.checkpoint_every=2", "shs.penalty.ramp=0.5", "recover.rewind=true", "recover.best=true",
]  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rounds")
    pipeline.run(_recipe(folder), folder / "run", lambda _: None, "recover")
    return folder / "run"


def _recipe(folder: Path) -> Any:
    return settings.load(mini_recipe(folder), OVERRIDES)


def parents(path: Path) -> Mapping[str, str]:
    return {name: parent["identity"] for name, parent in artifact.read(path).manifest["parents"].items()}


def identity(path: Path) -> str:
    return artifact.read(path).identity


@pytest.mark.parametrize("name", ["plain", "hoyer"])
def test_every_plan_is_one_for_the_model_before_it(made: Path, name: str) -> None:
    first, last = plan.read(made / "rounds" / name / "1" / "plan"), plan.read(made / "plans" / name)
    source = made / ("shs" if name == "hoyer" else "dense")
    plan.check(first, checkpoint.load(source).config)
    trained = checkpoint.load(made / "rounds" / name / "1" / "trained")
    plan.check(last, trained.config)
    dense = checkpoint.load(made / "dense").config
    pruned = checkpoint.load(made / "pruned" / name).config
    whole = cost.total(dense, "flops")
    assert cost.total(trained.config, "flops") / whole <= 0.8
    assert cost.total(pruned, "flops") / whole <= 0.64
    assert parents(made / "pruned" / name)["model"] == identity(made / "rounds" / name / "1" / "trained")
    assert parents(made / "plans" / name)["plan 1"] == identity(made / "rounds" / name / "1" / "plan")


def test_a_layer_goes_in_the_first_round_and_is_not_missed_in_the_second(made: Path) -> None:
    assert len(plan.read(made / "rounds" / "plain" / "1" / "plan").keep["decoder.layer"]) == 1
    assert "decoder.layer" not in plan.read(made / "plans" / "plain").keep
    assert len(checkpoint.load(made / "recovered" / "plain").config.decoder_shapes or []) == 1


def test_one_shot_targets_have_no_rounds(made: Path) -> None:
    assert not (made / "rounds" / "once").exists()
    assert parents(made / "pruned" / "once")["model"] == identity(made / "dense")


def test_the_training_in_between_has_its_penalty_or_teacher(made: Path) -> None:
    hoyer, plain = (parents(made / "rounds" / name / "1" / "trained") for name in ("hoyer", "plain"))
    assert {"model", "analysis", "teacher", "corpus", "plan 1"} == set(hoyer)
    assert {"model", "teacher", "corpus"} == set(plain)
    assert hoyer["teacher"] == plain["teacher"] == identity(made / "dense")
    strength = read_json(made / "rounds" / "hoyer" / "1" / "trained" / "strengths.json")
    trained = checkpoint.load(made / "rounds" / "hoyer" / "1" / "trained").config
    assert set(strength) == {group.name for group in lines.groups(trained, lines.WIDTH_KINDS)}


def test_everybody_recovers_on_the_same_lessons_the_dense_model_too(made: Path) -> None:
    models = [made / "dense-distilled", *(made / "recovered" / name for name in ("once", "plain", "hoyer"))]
    lessons = identity(made / "distilled")
    assert {parents(path)["corpus"] for path in models} == {lessons}
    assert parents(made / "shs")["corpus"] == identity(made / "corpus") != lessons
    assert parents(models[0])["model"] == parents(models[0])["teacher"] == identity(made / "dense")
    configs = [artifact.read(path).manifest["config"] for path in models]
    assert all(config == configs[0] for config in configs)
    assert (configs[0]["skip"], configs[0]["learning_rate"]) == (12 - 8, 1e-3)


def test_without_the_dense_models_own_row_all_else_is_as_it_was(made: Path) -> None:
    told: list[str] = []
    recipe = _recipe(made.parent)
    recipe = recipe.model_copy(update={"distill": recipe.distill.model_copy(update={"dense": False})})
    pipeline.run(recipe, made, told.append, "recover")
    assert not any("dense-distilled" in line for line in told)
    assert {line.partition(": ")[2].partition(" (")[0] for line in told} == {"up to date"}


def test_a_second_run_makes_nothing_again(made: Path) -> None:
    told: list[str] = []
    pipeline.run(_recipe(made.parent), made, told.append, "recover")
    assert told
    assert all("up to date" in line for line in told)


@pytest.fixture
def models(tmp_path: Path) -> Callable[..., Path]:
    """Saves a small model of a shape, with `depths` layers in encoder and decoder, and gives its directory."""

    def save(depths: tuple[int, int] | None = None, **shape: Any) -> Path:
        from tests.sparsity.small_models import config, model_of

        made = config(**shape)
        if depths:
            encoder, decoder = (config(depth=depth) for depth in depths)
            made.encoder_shapes, made.decoder_shapes = encoder.encoder_shapes, decoder.decoder_shapes
        folder = tmp_path / f"model-{len(list(tmp_path.iterdir()))}"
        checkpoint.save(model_of(made), folder)
        return folder

    return save


def read(model: Path) -> Any:
    return checkpoint.load(model).config


def test_budgets_lie_geometrically_between(models: Callable[..., Path]) -> None:
    dense, narrow = models(ffn=40, depth=3), models(ffn=20, depth=3)
    target = Target(name="t", keep=0.216, rounds=3)
    assert rounds.share_of(target, 1, dense, dense).keep == pytest.approx(0.6)
    ratio = cost.total(read(narrow), "flops") / cost.total(read(dense), "flops")
    assert rounds.share_of(target, 2, dense, narrow).keep * ratio == pytest.approx(0.36)
    assert rounds.share_of(target, 3, dense, narrow).keep * ratio == pytest.approx(0.216)


def test_layers_that_are_gone_are_not_dropped_again(models: Callable[..., Path]) -> None:
    dense = models(depth=4)
    target = Target(name="t", rounds=3, drop_encoder_layers=3, drop_decoder_layers=1)
    for number, depths, to_drop in (
        (1, (4, 4), (1, 1)),
        (2, (3, 3), (1, 0)),
        (3, (2, 3), (1, 0)),
        (2, (2, 2), (0, 0)),  # a planner has dropped more by itself
        (3, (1, 1), (0, 0)),
        (3, (3, 4), (2, 1)),  # or what was asked for is not done yet
    ):
        part = rounds.share_of(target, number, dense, models(depths=depths))
        assert (part.drop_encoder_layers, part.drop_decoder_layers) == to_drop, (number, depths)


def test_speedups_of_rounds_are_over_the_dense_model(models: Callable[..., Path]) -> None:
    target = Target(name="t", planner="latency", budget="speedup", amount=8.0, table="t", rounds=3)
    shares = [rounds.share_of(target, number, models(depth=3), models(depth=2)) for number in (1, 2, 3)]
    assert [part.amount for part in shares] == pytest.approx([2.0, 4.0, 8.0])


def test_a_threshold_has_no_budget_to_come_closer_to() -> None:
    with pytest.raises(ValueError, match="rounds come closer to a share or a speedup"):
        Target(name="t", planner="threshold", rounds=2)


def test_which_model_a_target_scores() -> None:
    assert Target(name="t", score="shs").reads_sparse and Target(name="t", score="group_lasso").reads_sparse
    assert not Target(name="t", score="obs").reads_sparse
    assert Target(name="t", score="obs", sparsified=True).reads_sparse
    with pytest.raises(ValueError, match="score shs is a norm after training with the penalty: leave sparsified out"):
        Target(name="t", score="shs", sparsified=False)
