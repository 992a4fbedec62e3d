"""What pruning costs: minutes of every stage between the dense model and a recovered one, against dense training.

Run as `python -m tprune.benchmarks.cost RUN OUT.json` on the directory of a finished `tprune run`, whose manifests say
what each stage took. A stage that ran beside other work took longer for it.
"""

import sys
from pathlib import Path
from typing import Any

from tprune import artifact
from tprune.benchmarks import record
from tprune.errors import InputError
from tprune.provenance import made_by

SHARED = ("analysis", "shs", "distilled", "table")
"""Stages that all targets share, in a run's directory."""
OWN = ("trimmed", "rounds", "plans", "pruned", "recovered")
"""Folders with a target's own stages, by its name."""


def measure(run: Path) -> dict[str, Any]:
    """Minutes by stage, of each target in all, and as a share of dense training.

    Args:
        run: A run's directory, with a trained dense model and recovered ones.

    Raises:
        InputError: No such models, or made by a version that did not take the time.
    """
    dense = _minutes(run / "dense")
    targets = sorted(path.name for path in (run / "recovered").glob("*") if (path / artifact.MANIFEST).is_file())
    if dense is None or not targets:
        raise InputError(
            "no finished run whose stages' times are known",
            where=run,
            wanted="a trained dense model, and recovered ones",
            fix="give the directory of a `tprune run` of this version",
        )
    shared = {name: minutes for name in SHARED if (minutes := _minutes(run / name)) is not None}
    found = {}
    for name in targets:
        own = {kind: _below(run / kind / name) for kind in OWN if (run / kind / name).exists()}
        total = sum(shared.values()) + sum(own.values())
        found[name] = {"minutes": total, "share_of_dense": total / dense, "own_minutes": own}
    return {
        "experiment": "cost of pruning",
        "dense_minutes": dense,
        "shared_minutes": shared,
        "targets": found,
        "environment": record.environment().model_dump(),
        "made_by": made_by(),
    }


def _minutes(folder: Path) -> float | None:
    """Of one artifact; None where there is none, or nobody looked at the clock."""
    if not (folder / artifact.MANIFEST).is_file():
        return None
    seconds = artifact.read(folder, verify=False).manifest.get("seconds")
    return None if seconds is None else seconds / 60


def _below(folder: Path) -> float:
    """Of all artifacts in a folder, or of the one that it is."""
    manifests = [folder] if (folder / artifact.MANIFEST).is_file() else [
        path.parent for path in folder.rglob(artifact.MANIFEST)
    ]  # fmt: skip
    return sum(_minutes(path) or 0.0 for path in manifests)


if __name__ == "__main__":
    run, out = map(Path, sys.argv[1:])
    found = measure(run)
    artifact.write_json(out, found)
    for name, target in found["targets"].items():
        print(f"{name}: {target['minutes']:.1f} minutes, {target['share_of_dense']:.2f} of dense training")
