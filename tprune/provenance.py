"""Where a result comes from: version, commit, command."""

import platform
import re
import subprocess
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from tprune import __version__

ABSOLUTE = re.compile(r"""(?:^|(?<=[="']))/(?:[^/"']+/)*""")
"""Folders of an absolute path, as an argument, behind the = of a setting, or in quotes within one."""


@cache
def git_state() -> dict[str, Any]:
    """Commit and dirty flag of the source tree tprune runs from; nulls outside a checkout."""

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", str(Path(__file__).resolve().parent), *arguments],
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        ).stdout.strip()

    try:
        return {"commit": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain", "--untracked-files=no"))}
    except (OSError, subprocess.SubprocessError):
        return {"commit": None, "dirty": None}


def made_by() -> dict[str, Any]:
    """Version, commit and command, as recorded in manifests and result rows.

    Of absolute paths only the last part is recorded: the rest is this machine's own, and results are published.
    """
    arguments = [ABSOLUTE.sub("…/", argument) for argument in sys.argv[1:]]
    return {"tprune": __version__, **git_state(), "command": [Path(sys.argv[0]).name, *arguments]}


def seed(config: Mapping[str, Any]) -> int | None:
    """Seed of the training or the cut that made a model, by its manifest's settings; None where nothing was drawn."""
    found = config.get("seed", (config.get("learn") or {}).get("seed"))
    return None if found is None else int(found)


def environment() -> dict[str, str]:
    """The machine, as recorded in manifests."""
    return {"python": platform.python_version(), "machine": platform.machine(), "system": platform.system()}
