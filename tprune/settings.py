"""Settings from a recipe and from the command line.

A recipe is a TOML file that holds what differs from the defaults in `tprune.config`;
`--set section.key=value` overrides one key. Unknown keys, wrong types and values out of range are
collected into one error.
"""

import json
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from tprune.config import Config, Target
from tprune.errors import InputError
from tprune.section import problems

RECIPES = Path(__file__).parent / "recipes"
STAGES = ("corpus", "dense", "analysis", "shs", "distill", "recover", "bundles", "results", "report")
"""Of a run, in their order: what it can stop after."""
CHOOSING = ("global", "uniform")
"""Planners that keep a share of the FLOPs or parameters; every other budget has its own."""


def load(recipe: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Read a recipe and apply `section.key=value` overrides.

    Args:
        recipe: A shipped recipe's name, or the path of a TOML file.
        overrides: `learn.steps=500`; values are TOML, a bare word is a string.

    Raises:
        InputError: No such recipe, not TOML, or values that do not fit; all of them at once.
    """
    path = _find(recipe)
    try:
        tree = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError("not valid TOML", where=path, got=str(error), fix="correct the recipe") from None
    tree.setdefault("name", path.stem)
    return _checked(tree, overrides, path)


def defaults(overrides: Sequence[str] = ()) -> Config:
    """The defaults with overrides, for verbs called without a recipe; raises as `load` does."""
    return _checked({"name": "defaults"}, overrides, "defaults")


def as_toml(config: Config) -> str:
    """All settings as a recipe that can be read again; what is not set is a comment, since TOML has no null."""
    return "\n".join(_lines(config.model_dump(mode="json"), ())).strip() + "\n"


def target(**values: Any) -> Target:
    """A pruning target from a command line's flags; raises InputError with all that does not fit."""
    try:
        return Target(**values)
    except ValidationError as error:
        raise InputError("these flags do not fit", problems=problems(error), fix="correct them") from None


def budgeted(
    name: str, budgets: Mapping[str, float | None], planner: str, device_table: str | None, **rest: Any
) -> Target:
    """A pruning target from a command line's flags, of which one is a budget.

    Args:
        name: Of the plan.
        budgets: Values of --parameters, --flops, --threshold, --speedup and --milliseconds, None where not given.
        planner: For the budgets that leave a choice.
        device_table: Name of the latency table.
        **rest: Other fields of the target.

    Raises:
        InputError: No budget or several, a time without a table, another budget's planner, or values that do not fit.
    """
    given = {key: value for key, value in budgets.items() if value is not None}
    if len(given) != 1:
        raise InputError(
            "one budget is needed",
            got=", ".join(given) or "none",
            wanted="--parameters, --flops, --threshold, --speedup or --milliseconds (or --plan)",
            fix="give exactly one",
        )
    ((key, value),) = given.items()
    timed = key in ("speedup", "milliseconds")
    if timed != (device_table is not None):
        raise InputError(
            "a time is counted with a table, and nothing else is",
            got=f"--{key} {'without' if timed else 'with'} --device-table",
            fix="fill a table with `tprune table` and give it" if timed else "leave --device-table out",
        )
    if planner not in CHOOSING:
        raise InputError("no such planner here", got=planner, wanted=" | ".join(CHOOSING), fix="use one of these")
    budget: dict[str, Any] = {"planner": planner, "budget": key, "keep": value}
    if key == "threshold":
        budget = {"planner": "threshold", "threshold": value}
    elif timed:
        budget = {"planner": "latency", "budget": key, "amount": value, "table": device_table}
    return target(name=name, **budget, **rest)


def _checked(tree: dict[str, Any], overrides: Sequence[str], where: object) -> Config:
    for override in overrides:
        _assign(tree, override)
    try:
        return Config.model_validate(_layer(tree))
    except ValidationError as error:
        keys = [".".join(map(str, entry["loc"])) for entry in error.errors()]
        own = _setters(overrides, keys)
        raise InputError(
            "the settings do not fit" if own else "the recipe does not fit",
            where=" ".join(own) or where,
            problems=problems(error),
            fix="correct these keys; `tprune settings` prints all of them",
        ) from None


def _setters(overrides: Sequence[str], keys: Sequence[str]) -> list[str]:
    """The overrides that set these keys, or what they are in; none if some key is not of theirs."""

    def sets(override: str, key: str) -> bool:
        return f"{key}.".startswith(f"{override.partition('=')[0]}.")

    every = all(any(sets(override, key) for override in overrides) for key in keys)
    return [override for override in overrides if any(sets(override, key) for key in keys)] if every else []


def _lines(tree: Mapping[str, Any], path: tuple[str, ...]) -> list[str]:
    """A table's own keys, then the tables below it."""
    lines = []
    for key, value in tree.items():
        if value is None:
            lines.append(f"# {key} is not set")
        elif not _is_below(value):
            lines.append(f"{key} = {json.dumps(value, ensure_ascii=False)}")  # which TOML reads the same
    for key, value in tree.items():
        name = ".".join((*path, key))
        if isinstance(value, Mapping):
            lines += ["", f"[{name}]", *_lines(value, (*path, key))]
        elif _is_below(value):
            for entry in value:
                lines += ["", f"[[{name}]]", *_lines(entry, (*path, key))]
    return lines


def _is_below(value: Any) -> bool:
    """Whether it is a table, or a list of tables."""
    return isinstance(value, Mapping) or (
        isinstance(value, list) and any(isinstance(entry, Mapping) for entry in value)
    )


def _find(recipe: str | Path) -> Path:
    shipped = RECIPES / f"{recipe}.toml"
    path = shipped if shipped.is_file() else Path(recipe)
    if not path.is_file():
        raise InputError(
            "no such recipe",
            where=recipe,
            wanted=" | ".join(sorted(entry.stem for entry in RECIPES.glob("*.toml"))) + " or a .toml file",
            fix="give one of these names or the path of a file",
        )
    return path


def _layer(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Lay the recipe over the defaults, so that `[recover] steps = 5` keeps recovery's other defaults."""
    return _merge(Config(name="defaults").model_dump(), tree)


def _merge(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in changes.items():
        below = merged.get(key)
        merged[key] = _merge(below, value) if isinstance(below, Mapping) and isinstance(value, Mapping) else value
    return merged


def _assign(tree: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise InputError(
            "override without a value",
            where=f"--set {override}",
            wanted="section.key=value",
            fix="write for example --set learn.steps=500",
        )
    *path, last = key.split(".")
    for part in path:
        below = tree.setdefault(part, {})
        if isinstance(below, list):
            raise InputError(
                "a list is set as a whole",
                where=f"--set {override}",
                got=key,
                wanted=f"{part}=[…]",
                fix="write all its entries, or a recipe with them",
            )
        if not isinstance(below, dict):
            raise InputError(
                "no such section", where=f"--set {override}", got=part, fix="`tprune settings` prints all keys"
            )
        tree = below
    tree[last] = _value(text)


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
