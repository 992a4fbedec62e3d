"""What pruning costs: minutes of every stage between the dense model and a recovered one, against dense training.

Run as `python -m tprune.benchmarks.cost RUN OUT.json` on the directory of a finished `tprune run`, whose manifests say
what each stage took and was made from. A stage that ran beside other work took longer for it.
"""

from pathlib import Path
from typing import Any

from tprune import artifact
from tprune.artifact import Artifact
from tprune.entry import script
from tprune.errors import InputError
from tprune.json_file import write_json
from tprune.progress import tell
from tprune.provenance import made_by

DENSE, RECOVERED = "dense", "recovered"


def measure(run: Path) -> dict[str, Any]:
    """Minutes of all that each recovered model was made from, but the dense model and its text, and their sum.

    Args:
        run: A run's directory, with a trained dense model and recovered ones.

    Raises:
        InputError: No such models, or a stage was made by a version that did not take the time.
        ArtifactError: A manifest that cannot be read.
    """
    found = {path: artifact.read(path, verify=False) for path in _artifacts(run)}
    dense = found.get(run / DENSE)
    targets = {path.name: made for path, made in sorted(found.items()) if path.parent == run / RECOVERED}
    if dense is None or not targets:
        raise InputError(
            "no finished run",
            where=run,
            wanted=f"{DENSE} and {RECOVERED}/…",
            fix="give the directory of a `tprune run` that trained its dense model",
        )
    by_identity = {made.identity: made for made in found.values()}
    given = _ancestry(dense, by_identity)
    minutes = {
        name: {
            str(made.path.relative_to(run)): _minutes(made)
            for identity, made in sorted(_ancestry(target, by_identity).items(), key=lambda item: item[1].path)
            if identity not in given
        }
        for name, target in targets.items()
    }
    trained = _minutes(dense)
    return {
        "experiment": "cost of pruning",
        "dense_minutes": trained,
        "targets": {
            name: {"minutes": sum(own.values()), "share_of_dense": sum(own.values()) / trained, "stages": own}
            for name, own in minutes.items()
        },
        "environment": dense.manifest["environment"],
        "made_by": made_by(),
    }


def _artifacts(run: Path) -> list[Path]:
    folders = (path.parent for path in run.rglob(artifact.MANIFEST))
    return [path for path in folders if not any(part.endswith(".partial") for part in path.relative_to(run).parts)]


def _ancestry(made: Artifact, by_identity: dict[str, Artifact]) -> dict[str, Artifact]:
    """An artifact and all that it was made from, as far as it lies in the run."""
    found, left = dict[str, Artifact](), [made]
    while left:
        one = left.pop()
        if one.identity not in found:
            found[one.identity] = one
            identities = [parent["identity"] for parent in one.manifest["parents"].values()]
            left += [by_identity[identity] for identity in identities if identity in by_identity]
    return found


def _minutes(made: Artifact) -> float:
    seconds = made.manifest.get("seconds")
    if seconds is None:
        raise InputError(
            "nobody knows how long this took",
            where=made.path,
            got="a manifest without seconds",
            fix="make it again with this version of tprune",
        )
    return float(seconds) / 60


def _main(run: Path, out: Path) -> None:
    found = measure(run)
    write_json(out, found)
    for name, target in found["targets"].items():
        tell(f"{name}: {target['minutes']:.1f} minutes, {target['share_of_dense']:.2f} of dense training")


if __name__ == "__main__":
    script(_main)
