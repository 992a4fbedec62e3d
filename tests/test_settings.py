"""Recipes and overrides: what is accepted, and every problem in one readable error."""

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from tests.command import tprune
from tprune import settings
from tprune.config import Config, Learn, Target
from tprune.errors import InputError
from tprune.section import resolved
from tprune.settings import RECIPES, as_toml, load

SHIPPED = sorted(RECIPES.glob("*.toml"))
FIX = "correct these keys; `tprune settings` prints all of them"


def recipe(folder: Path, text: str, name: str = "mine.toml") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def refusal(*arguments: Any) -> InputError:
    with pytest.raises(InputError) as caught:
        load(*arguments)
    return caught.value


def test_the_shipped_recipes_are_there() -> None:
    assert {"quickstart", "multi30k"} <= {path.stem for path in SHIPPED}


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_every_shipped_recipe_loads(path: Path) -> None:
    by_name, by_path = load(path.stem), load(path)
    assert by_name == by_path
    assert by_name.name == path.stem
    # a recipe holds only what differs: every value in it is one, and is not the default
    for key, value in leaves(tomllib.loads(path.read_text())):
        if key[0] != "targets":
            assert value_at(resolved(by_name), key) == value


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_what_pushes_lines_to_zero_is_as_strong_in_every_recipe(path: Path) -> None:
    found = load(path)
    assert found.shs.penalty.weight * sum_of_rates(found.shs.learn) == pytest.approx(2, rel=0.1)
    assert found.analyze.weight * sum_of_rates(found.analyze.learn) == pytest.approx(2.4, rel=0.05)


def sum_of_rates(learn: Learn) -> float:
    """Of all steps of a schedule, as its formula says; constant or linear to 0, without warmup."""
    assert learn.warmup == 0
    share = {"constant": 1.0, "linear": 0.5}[learn.schedule]
    return learn.steps * learn.learning_rate * share


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_settings_as_toml_are_a_recipe_with_everything(path: Path, tmp_path: Path) -> None:
    found = load(path, ['text.folder=C:\\a "b" ü'])
    text = as_toml(found)
    assert load(recipe(tmp_path, text, path.name)) == found
    for key, value in leaves(resolved(found)):
        assert key[0] == "targets" or re.search(rf"^(# )?{key[-1]} (=|is not set)", text, flags=re.MULTILINE), key
        assert value is None or key[0] == "targets" or value_at(tomllib.loads(text), key) == value


def test_the_verb_prints_them(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert tprune(monkeypatch, "settings", "quickstart", "--set", "learn.steps=7") == 0
    said = tomllib.loads(capsys.readouterr().out)
    assert (said["name"], said["learn"]["steps"], said["recover"]["distill"]) == ("quickstart", 7, 0.5)
    assert tprune(monkeypatch, "settings") == 0
    assert tomllib.loads(capsys.readouterr().out)["learn"]["steps"] == Config(name="defaults").learn.steps
    assert tprune(monkeypatch, "run", "--help") == 0
    assert "corpus, dense, analysis, shs, distill, recover, bundles, results, report" in " ".join(
        capsys.readouterr().out.split()
    )


def leaves(tree: dict[str, Any], prefix: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], Any]]:
    found = []
    for key, value in tree.items():
        found += leaves(value, (*prefix, key)) if isinstance(value, dict) else [((*prefix, key), value)]
    return found


def value_at(tree: Any, key: tuple[str, ...]) -> Any:
    for part in key:
        tree = tree[part]
    return tree


def test_a_recipe_is_laid_over_the_defaults(tmp_path: Path) -> None:
    found = load(recipe(tmp_path, "[recover]\nsteps = 7\n[analyze.learn]\nseed = 9\n[[targets]]\nname = 'x'\n"))
    defaults = Config(name="mine")
    assert found.recover == defaults.recover.model_copy(update={"steps": 7})
    assert found.recover.distill == 0.5  # recovery's own default, not that of every training
    assert found.analyze.learn == defaults.analyze.learn.model_copy(update={"seed": 9})
    assert found.targets == (Target(name="x"),)
    assert (found.learn, found.bench, found.name) == (defaults.learn, defaults.bench, "mine")


@pytest.mark.parametrize(
    ("override", "key", "value"),
    [
        ("learn.steps=500", "learn.steps", 500),
        ("learn.learning_rate=3e-4", "learn.learning_rate", 3e-4),
        ("learn.schedule=cosine", "learn.schedule", "cosine"),
        ('learn.schedule="cosine"', "learn.schedule", "cosine"),
        ("analyze.learn.steps=3", "analyze.learn.steps", 3),
        ("shs.penalty.weight=0.5", "shs.penalty.weight", 0.5),
        ('text.test=["a", "b"]', "text.test", ["a", "b"]),
        ("text.folder=/data/my corpus", "text.folder", "/data/my corpus"),
        ("text.folder=a=b", "text.folder", "a=b"),
        ("bench.threads=[4]", "bench.threads", [4]),
        ("name=other", "name", "other"),
        ("learn.dropout=0.25", "learn.dropout", 0.25),
    ],
)
def test_overrides(tmp_path: Path, override: str, key: str, value: object) -> None:
    path = recipe(tmp_path, "[learn]\nsteps = 1\n")
    found = load(path, [override]).model_dump(mode="json")
    assert value_at(found, tuple(key.split("."))) == value
    untouched = dict(leaves(load(path).model_dump(mode="json")))
    changed = {name for name, entry in leaves(found) if untouched[name] != entry}
    assert changed == {tuple(key.split("."))}


def test_the_last_override_wins(tmp_path: Path) -> None:
    path = recipe(tmp_path, "")
    assert load(path, ["learn.steps=1", "learn.steps=2"]).learn.steps == 2


def test_all_problems_in_one_error(tmp_path: Path) -> None:
    text = """
    [learn]
    stepps = 5
    learning_rate = -1
    schedule = "fast"
    [model]
    heads = "many"
    [[targets]]
    keep = 1.5
    [optimizer]
    name = "sgd"
    """
    path = recipe(tmp_path, text)
    error = refusal(path, ["bench.rounds=0", "learn.steps=2.5"])
    assert set(error.problems) == {
        "unknown key learn.stepps",
        "learn.learning_rate: input should be greater than 0 (got -1)",
        "learn.schedule: input should be 'inverse_sqrt', 'linear', 'cosine' or 'constant' (got 'fast')",
        "model.heads: input should be a valid integer, unable to parse string as an integer (got 'many')",
        "targets.0.name: field required (got {'keep': 1.5})",
        "targets.0.keep: input should be less than or equal to 1 (got 1.5)",
        "unknown key optimizer",
        "bench.rounds: input should be greater than 0 (got 0)",
        "learn.steps: input should be a valid integer, got a number with a fractional part (got 2.5)",
    }
    assert str(error) == f"{path}: the recipe does not fit · {'; '.join(error.problems)} · {FIX}"


@pytest.mark.parametrize(
    ("override", "problem"),
    [
        ("learn=5", "learn: input should be a valid dictionary or instance of Learn (got 5)"),
        ("learning.rate=5", "unknown key learning"),
        ("text.kind=web", "text.kind: input should be 'synthetic', 'files' or 'dataset' (got 'web')"),
        ("text.vocabulary=8", "text.vocabulary: input should be greater than or equal to 32 (got 8)"),
        ("name=a/b", "name: string should match pattern '^[A-Za-z0-9][A-Za-z0-9._-]*$' (got 'a/b')"),
        ("learn.learning_rate=nan", "learn.learning_rate: input should be a finite number (got nan)"),
        ("learn.clip=inf", "learn.clip: input should be a finite number (got inf)"),
        ("learn.steps=", "learn.steps: input should be a valid integer, unable to parse string as an integer (got '')"),
    ],
)
def test_values_that_do_not_fit(tmp_path: Path, override: str, problem: str) -> None:
    assert list(refusal(recipe(tmp_path, ""), [override]).problems) == [problem]


def test_malformed_overrides(tmp_path: Path) -> None:
    path = recipe(tmp_path, "[learn]\nsteps = 3\n")
    wanted = "wanted section.key=value · write for example --set learn.steps=500"
    for override in ("learn.steps", "=5"):
        assert str(refusal(path, [override])) == f"--set {override}: override without a value · {wanted}"
    assert str(refusal(path, ["learn.steps.more=5"])) == (
        "--set learn.steps.more=5: no such section · got steps · `tprune settings` prints all keys"
    )


def test_a_list_is_set_as_a_whole(tmp_path: Path) -> None:
    path = recipe(tmp_path, '[[targets]]\nname = "a"\nkeep = 0.5\n')
    said = "a list is set as a whole · got targets.0.keep · wanted targets=[…] · write all its entries"
    assert str(refusal(path, ["targets.0.keep=0.4"])).startswith(f"--set targets.0.keep=0.4: {said}")


def test_recipes_that_are_no_recipes(tmp_path: Path) -> None:
    names = " | ".join(path.stem for path in SHIPPED)
    assert str(refusal("quickstrat")) == (
        f"quickstrat: no such recipe · wanted {names} or a .toml file · give one of these names or the path of a file"
    )
    assert "no such recipe" in str(refusal(tmp_path))
    broken = recipe(tmp_path, "[learn\n")
    assert str(refusal(broken)).startswith(f"{broken}: not valid TOML · got ")
    broken.write_bytes(b"name = '\xff'")
    assert str(refusal(broken)).endswith("· correct the recipe")


def test_defaults_and_flags() -> None:
    assert settings.defaults() == Config(name="defaults")
    assert settings.defaults(["learn.steps=3"]).learn == Learn(steps=3)
    assert settings.target(name="x", keep=0.3) == Target(name="x", keep=0.3)
    with pytest.raises(InputError) as caught:
        settings.target(name="x", keep=0, planer="global")
    assert str(caught.value) == (
        "these flags do not fit · keep: input should be greater than 0 (got 0); unknown key planer · correct them"
    )


def test_settings_are_immutable_and_survive_json() -> None:
    settings = load("quickstart")
    with pytest.raises(ValidationError, match="frozen"):
        settings.learn.steps = 1  # type: ignore[misc]
    assert Config.model_validate(json.loads(json.dumps(resolved(settings)))) == settings


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"planner": "latency"}, "the planner latency goes with the budgets speedup and milliseconds"),
        ({"budget": "speedup", "amount": 2.0, "table": "t"}, "the planner latency goes with the budgets"),
        ({"planner": "latency", "budget": "speedup"}, "the planner latency, and no other, needs an amount and a table"),
        ({"planner": "latency", "budget": "milliseconds", "amount": 2.0}, "needs an amount and a table"),
        ({"amount": 2.0}, "needs an amount and a table"),
        ({"table": "measure"}, "needs an amount and a table"),
    ],
)
def test_a_time_is_counted_with_a_table_and_nothing_else_is(given: dict[str, Any], why: str) -> None:
    with pytest.raises(InputError, match=why):
        settings.target(name="t", **given)
    assert settings.target(name="t", planner="latency", budget="speedup", amount=2.0, table="measure").amount == 2


def test_recovery_rewinds_to_the_end_of_the_dense_training() -> None:
    dense = ["learn.steps=50", "learn.schedule=cosine", "learn.learning_rate=2e-3", "learn.warmup=7"]
    found = settings.defaults([*dense, "recover.rewind=true", "recover.steps=20"]).recovery
    assert (found.steps, found.skip, found.rewind) == (20, 30, False)
    assert (found.schedule, found.learning_rate, found.warmup) == ("cosine", 2e-3, 7)
    own = settings.defaults([*dense, "recover.steps=20"])
    assert own.recovery == own.recover


@pytest.mark.parametrize(
    ("overrides", "problem"),
    [
        (["recover.rewind=true", "recover.steps=51", "learn.steps=50"], "51 steps are more than the dense training's"),
        (["recover.rewind=true", "start=some/model"], "a converted model brings no learning rates to go back to"),
        (["recover.best=true", "recover.average=2"], "best keeps one checkpoint, average several"),
        (
            ["text.max_tokens=200", "model.max_positions=100"],
            "text.max_tokens: sentences of 200 tokens are longer than model.max_positions, 100",
        ),
        (["model.heads=6"], "model: 6 heads do not divide a d_model of 256"),
        (["analyze.learn.distill=0.5"], "these trainings have no teacher"),
        (["table.engine=executorch", "table.precision=int8-block"], "executorch has no int8-block, but fp32 | int8"),
    ],
)
def test_settings_that_exclude_each_other(overrides: list[str], problem: str) -> None:
    with pytest.raises(InputError) as caught:
        settings.defaults(overrides)
    assert problem in str(caught.value)


def test_a_converted_model_brings_its_own_positions() -> None:
    found = settings.defaults(["text.max_tokens=200", "model.max_positions=100", "start=some/model"])
    assert found.text.max_tokens == 200


def test_targets_have_names_of_their_own(tmp_path: Path) -> None:
    names = ["dense", "Small", "small", "dense-distilled", "fine", "SMALL", "b", "b", "c.partial"]
    error = refusal(recipe(tmp_path, "\n".join(f'[[targets]]\nname = "{name}"' for name in names)))
    assert error.problems == (
        "targets: 3 are called small, 2 are called b, dense is the name of a model that is not pruned, dense-distilled "
        "is the name of a model that is not pruned, c.partial ends as an unfinished directory does; give each a name "
        "of its own",
    )


def test_what_is_not_set_is_in_no_manifest() -> None:
    chosen = settings.defaults()
    assert chosen.learn.dropout is None
    assert "dropout" not in resolved(chosen.learn)
    assert Learn.model_validate(resolved(chosen.learn)) == chosen.learn
