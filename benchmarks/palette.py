"""Colors and marks shared by the interactive figures and the pictures."""

import re
from collections.abc import Iterable

INK, QUIET, GRID, PAPER = "#1f2933", "#7b8794", "#e4e7eb", "#ffffff"
SERIES = (
    "#0b6bcb",
    "#d9480f",
    "#2b8a3e",
    "#9c36b5",
    "#e08e0b",
    "#0c8599",
    "#c2255c",
    "#5c7cfa",
    "#66a80f",
    "#795548",
    "#343a40",
    "#f783ac",
    "#15aabf",
    "#868e96",
)
"""Colors of series, in order; told apart by the color-blind up to the sixth."""
HEAT = ("#ffffff", "#cfe3f7", "#7fb2e5", "#2f7dc4", "#0b3d6b")
"""Colors from nothing sparse to everything sparse."""

_FAMILIES = {
    ("encoder", "attn"): "#0b6bcb",
    ("encoder", "ffn"): "#2b8a3e",
    ("decoder", "self_attn"): "#e08e0b",
    ("decoder", "cross_attn"): "#c2255c",
    ("decoder", "ffn"): "#9c36b5",
}


def series_color(index: int) -> str:
    """Color of the series with this index; they come round again."""
    return SERIES[index % len(SERIES)]


def component_colors(components: Iterable[str]) -> dict[str, str]:
    """One color family for each stack and kind of sub-layer, paler with depth."""
    names = list(dict.fromkeys(components))
    deepest = max((_depth(name) for name in names), default=0)
    return {name: _pale(_family(name), 0.6 * _depth(name) / max(deepest, 1)) for name in names}


def _depth(component: str) -> int:
    found = re.search(r"\.(\d+)", component)
    return int(found[1]) if found else 0


def _family(component: str) -> str:
    for (stack, part), color in _FAMILIES.items():
        if component.startswith(stack) and part in component.replace(".fc", ".ffn"):
            return color
    return QUIET


def _pale(color: str, share: float) -> str:
    parts = (int(color[start : start + 2], 16) for start in (1, 3, 5))
    return "#" + "".join(f"{round(part + (255 - part) * share):02x}" for part in parts)
