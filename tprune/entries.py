"""What a benchmark is given: models and bundles by engine, precision and name, checked before anything is measured."""

from collections.abc import Mapping, Sequence

from tprune.artifact import Artifact
from tprune.benchmarks.record import DENSE
from tprune.errors import InputError
from tprune.export import description

Entry = tuple[str, str, str]
"""Engine, precision and model name."""


def entries_of(given: Sequence[tuple[str, Artifact]]) -> dict[Entry, Artifact]:
    """What checkpoints or bundles with these names are measured as.

    Raises:
        InputError: Two of one engine and precision have the same name.
    """
    found: dict[Entry, Artifact] = {}
    for name, made in given:
        said = {"engine": "pytorch", "precision": "fp32"} if made.kind == "model" else made.manifest["config"]
        entry = str(said["engine"]), str(said["precision"]), name
        if entry in found:
            raise InputError(
                "two models of one name",
                where=made.path,
                got=f"{' '.join(entry)}, as {found[entry].path}",
                fix="rename one of the directories: results are told apart by it",
            )
        found[entry] = made
    return found


def require_dense(entries: Mapping[Entry, Artifact]) -> None:
    """Refuse what has nothing to be compared with on this machine.

    Raises:
        InputError: An engine has no dense model, in any precision.
    """
    engines = dict.fromkeys(engine for engine, _, _ in entries)
    known = {engine for engine, _, model in entries if model == DENSE}
    if lacking := [engine for engine in engines if engine not in known]:
        raise InputError(
            "nothing to compare with",
            where=", ".join(lacking),
            got=f"a dense model for {', '.join(sorted(known)) or 'no engine'}",
            wanted="one for each engine that has a pruned model",
            fix="give the dense model as a bundle of that engine: `tprune export DENSE --engine …`",
        )


def require_direction(made: Sequence[Artifact], text: Artifact) -> None:
    """Refuse bundles of other languages than the text's, where they say theirs.

    Raises:
        InputError: A bundle was exported with a corpus of another direction.
    """
    wanted = (text.manifest["config"]["source"], text.manifest["config"]["target"])
    for bundle in made:
        languages = description.read(bundle.path).languages if bundle.kind == "bundle" else None
        if languages not in (None, wanted):
            raise InputError(
                "a bundle for other languages than the text's",
                where=bundle.path,
                got=" to ".join(languages),
                wanted=" to ".join(wanted),
                fix="give the corpus of its own languages",
            )
