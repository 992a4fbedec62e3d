"""An ablation as data: which criteria and recipes are compared, on which shapes, with which seeds.

`tprune.ablation` runs it.

Criteria that keep the same widths take the same time, so the rule is: one shape for each speedup, and every criterion
chooses which units of that shape to keep. A row with `widths = "own"` brings its own planner instead, and keeps as much
as takes the shape's time by a latency table; one with `widths = "dense"` is trained like the others without a cut.
"""

import tomllib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from tprune import settings
from tprune.config import Target
from tprune.errors import InputError
from tprune.section import Section, problems

IN_TIME = ("budget", "amount", "table")  # fields of a target of the latency planner
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")]


class Shape(Section):
    """What models of one speedup look like: planned once, from the dense model."""

    name: Name
    target: Target
    """In a file also the name of one of the recipe's."""


class Entry(Section):
    """One criterion or recipe, compared on some or all shapes."""

    name: Name
    shapes: tuple[Name, ...] = ()
    """Empty: all."""
    widths: Literal["same", "own", "dense"] = "same"
    """The shape's; those that its own planner chooses; or all that the dense model has."""
    fresh: bool = False
    """Start from new weights: the same shape from scratch."""
    target: dict[str, Any] = Field({})
    """What differs from the shape's target, such as the score."""
    set: tuple[str, ...] = ()
    """What differs from the suite's recipe, as section.key=value."""
    seeds: tuple[int, ...] = ()
    """In place of the suite's."""


class Suite(Section):
    """Everything that is compared."""

    name: Name
    recipe: str
    """A recipe's name or file: text, dense model, analysis, SHS, recovery, and how rows are measured."""
    set: tuple[str, ...] = ()
    """What differs from the recipe in every row, as section.key=value."""
    seeds: Annotated[tuple[int, ...], Field(min_length=1)] = (1,)
    """Of SHS training, of random scores, and of recovery; the dense model is one."""
    table: str | None = None
    """Latency table by which rows with their own widths are brought to the predicted time of their shape: its path, or
    "measure" to fill one in the run. Without one their budgets stand as they are."""
    shapes: Annotated[tuple[Shape, ...], Field(min_length=1)]
    rows: Annotated[tuple[Entry, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        known = [shape.name for shape in self.shapes]
        wrong = [f"no shape is called {name}" for row in self.rows for name in row.shapes if name not in known]
        for what, names in (("shapes", known), ("rows", [row.name for row in self.rows])):
            wrong += [f"two {what} are called {name}" for name in _twice(names)]
        wrong += [f"seed {seed} stands twice in seeds" for seed in _twice(self.seeds)]
        for row in self.rows:
            wrong += [f"row {row.name}: seed {seed} stands twice" for seed in _twice(row.seeds)]
            wrong += [f"row {row.name}: shape {name} stands twice" for name in _twice(row.shapes)]
        if wrong:
            raise ValueError("; ".join(wrong))
        return self


def _twice(values: Sequence[int | str]) -> list[int | str]:
    return [value for value, count in Counter(values).items() if count > 1]


@dataclass(frozen=True)
class Job:
    """One model to be made and measured."""

    entry: Entry
    shape: str
    seed: int
    target: Target

    @property
    def label(self) -> str:
        """What tells it from the others."""
        return f"{self.target.name}.{self.seed}"

    def follows(self, table: bool) -> bool:
        """Whether the shape's plan is needed: for its widths, or by a latency table for its time."""
        return self.entry.widths == "same" or (self.matches and table)

    @property
    def matches(self) -> bool:
        """Whether its planner has to be told how much to keep to take as long as the shape."""
        return self.entry.widths == "own" and self.target.planner in ("uniform", "global") and self.target.rounds == 1


def load(path: Path, overrides: Sequence[str] = ()) -> Suite:
    """Read a suite.

    Args:
        path: A .toml file.
        overrides: More `section.key=value` for every row, after those of the file.

    Raises:
        InputError: No such file, not TOML, or values that do not fit; all of them at once.
    """
    try:
        tree = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError("no such suite", where=path, fix="give the path of a .toml file") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError("not valid TOML", where=path, got=str(error), fix="correct the suite") from None
    if isinstance(tree.get("set", []), list):
        tree["set"] = [*tree.get("set", []), *overrides]
    for shape in tree.get("shapes", ()):
        if isinstance(shape, dict) and isinstance(shape.get("target"), str):
            shape["target"] = _of_recipe(tree, shape["target"], path) | {"name": shape.get("name")}
        elif isinstance(shape, dict) and isinstance(shape.get("target"), dict):
            shape["target"].setdefault("name", shape.get("name"))
    try:
        suite = Suite.model_validate(tree)
        list(jobs(suite))
    except ValidationError as error:
        raise InputError(
            "the suite does not fit",
            where=path,
            problems=problems(error),
            fix="correct these keys; benchmarks/suite.py lists all of them",
        ) from None
    return suite


def _of_recipe(tree: dict[str, Any], name: str, path: Path) -> dict[str, Any]:
    """The recipe's target of this name."""
    recipe, overrides = tree.get("recipe"), tree.get("set", [])
    if not isinstance(recipe, str) or not isinstance(overrides, list) or not all(isinstance(o, str) for o in overrides):
        return {}  # the suite does not fit anyway
    targets = settings.load(recipe, overrides).targets
    for target in targets:
        if target.name == name:
            return target.model_dump()
    raise InputError(
        "the recipe has no such target",
        where=path,
        got=name,
        wanted=" | ".join(target.name for target in targets),
        fix="name one of these, or write the target out",
    )


def jobs(suite: Suite) -> Iterator[Job]:
    """Every row of the suite: seed by seed, so that the first results cover all criteria."""
    shapes = {shape.name: shape for shape in suite.shapes}
    for place in range(max(len(row.seeds or suite.seeds) for row in suite.rows)):
        for row in suite.rows:
            seeds = row.seeds or suite.seeds
            for name in (row.shapes or tuple(shapes)) if place < len(seeds) else ():
                yield Job(row, name, seeds[place], _target(shapes[name].target, row, f"{name}.{row.name}"))


def _target(shape: Target, row: Entry, name: str) -> Target:
    """The shape's target with the row's changes; another planner does not inherit the budget in time."""
    wanted = {**shape.model_dump(), **row.target, "name": name}
    if wanted["planner"] != "latency" == shape.planner:
        wanted = {key: value for key, value in wanted.items() if key in row.target or key not in IN_TIME}
    return Target.model_validate(wanted)
