"""Where the time of a translation goes, operator by operator, in every engine and precision of ours.

Run as `python -m tprune.benchmarks.decode_profile base OUT.json [--threads N]`, or `tiny`, or with a model's directory:
what `tprune explain` shows of each bundle, written down with the machine it was measured on.
"""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import typer

from tprune import artifact
from tprune.artifact import Artifact
from tprune.benchmarks import record
from tprune.benchmarks.lineup import Contestant, line_up
from tprune.benchmarks.sizes import SIZES, random_model
from tprune.delivery_config import PRECISIONS
from tprune.entry import script
from tprune.export import explain
from tprune.json_file import write_json
from tprune.progress import tell
from tprune.provenance import made_by


def profile(
    model: Artifact, folder: Path, threads: int, engines: Sequence[str] = tuple(PRECISIONS)
) -> list[dict[str, Any]]:
    """Every bundle's graphs, their times and those of their operators.

    Args:
        model: A dense or a pruned model.
        folder: Where its bundles are made.
        threads: Threads of one operator.
        engines: In all the precisions that they have.
    """
    return [_of(bundle, threads) for bundle in list(line_up(model, folder, engines, ()))]


def _of(bundle: Contestant, threads: int) -> dict[str, Any]:
    tell(f"profile {bundle.engine} {bundle.precision}")
    return {
        "engine": bundle.engine,
        "engine_version": bundle.version,
        "precision": bundle.precision,
        "threads": threads,
        "graphs": explain.as_data(explain.explain(bundle.path, threads)),
    }


def _main(
    model: Annotated[str, typer.Argument(help=f"{', '.join(SIZES)}, or a model's directory.")],
    out: Path,
    threads: int = 1,
) -> None:
    with TemporaryDirectory() as scratch:
        given = random_model(model, Path(scratch) / "model") if model in SIZES else artifact.read(Path(model), "model")
        found = profile(given, Path(scratch) / "bundles", threads)
    environment = record.environment().model_dump(mode="json")
    write_json(out, {"model": model, "environment": environment, "bundles": found, "made_by": made_by()})
    for bundle in found:
        for graph in bundle["graphs"]:
            dearest = [one for one in graph["operators"] if one["share"] is not None][:3]
            parts = ", ".join(f"{one['name']} {one['share']:.0%}" for one in dearest)
            tell(f"{bundle['engine']} {bundle['precision']} {graph['name']}: {parts}")


if __name__ == "__main__":
    script(_main)
