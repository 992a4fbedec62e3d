"""Imports run downhill, those inside functions too."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import tprune

ROOT = Path(tprune.__file__).parent
FLOORS = (
    (
        "errors",
        "json_file",
        "artifact",
        "disk",
        "provenance",
        "ranks",
        "stopwatch",
        "progress",
        "entry",
        "section",
        "config",
        "delivery_config",
        "settings",
    ),
    ("model", "text"),
    ("learn", "sparsity", "export"),
    ("benchmarks",),
    ("android_runner",),
    ("stage", "stages", "trim", "rounds", "recovery", "entries", "delivery", "ablation", "pipeline"),
    ("options", "verbs", "delivery_verbs", "cli"),
)
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}


def modules() -> list[Path]:
    return sorted(
        path.relative_to(ROOT)
        for room in FLOOR
        for path in [ROOT / f"{room}.py", *(ROOT / room).rglob("*.py")]
        if path.is_file()
    )


def imported(tree: ast.AST) -> Iterator[str]:
    """Rooms that a module imports from, wherever it does."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module == "tprune":
            names = [f"tprune.{alias.name}" for alias in node.names if alias.name != "__version__"]
        else:
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        yield from (name.split(".")[1] for name in names if name.startswith("tprune."))


@pytest.mark.parametrize("path", modules(), ids=str)
def test_nothing_is_imported_from_a_floor_above(path: Path) -> None:
    own = FLOOR[path.parts[0].removesuffix(".py")]
    rooms = set(imported(ast.parse((ROOT / path).read_text(encoding="utf-8"))))
    assert rooms <= FLOOR.keys()
    assert {room for room in rooms if FLOOR[room] > own} == set()


def test_every_room_has_a_floor() -> None:
    there = {path.stem for path in ROOT.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert there - {"__init__"} == FLOOR.keys()
    assert len(modules()) > 150
