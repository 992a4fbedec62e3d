"""How long an artifact took to make, over all the runs that were killed on the way.

It stands beside the hashes and never below them: equal work takes unequal time.
"""

import json
import time
from collections.abc import Callable
from pathlib import Path

from tprune.json_file import write_json

FILE = "stopwatch.json"  # in an artifact's scratch


def start(scratch: Path) -> Callable[[], float]:
    """Go on counting where a killed run wrote its last file.

    Returns:
        What gives the seconds so far; work that a kill lost does not count.
    """
    before, now = _before(scratch), time.time()
    write_json(scratch / FILE, {"before": before, "since": now})
    begin = time.monotonic()
    return lambda: before + time.monotonic() - begin


def _before(scratch: Path) -> float:
    try:
        said = json.loads((scratch / FILE).read_text(encoding="utf-8"))
        before, since = float(said["before"]), float(said["since"])
    except (OSError, ValueError, TypeError, KeyError):  # none, or not ours
        return 0.0
    last = max((path.stat().st_mtime for path in scratch.rglob("*") if path.name != FILE), default=since)
    return before + max(0.0, last - since)
