"""A stage: an artifact that is described before it is made, so that nothing current is made again."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tprune import artifact
from tprune.artifact import Artifact


@dataclass(frozen=True)
class Stage:
    """One artifact to be made."""

    name: str
    out: Path
    fingerprint: str
    """Of everything the artifact depends on."""
    make: Callable[[bool], Artifact]
    """Makes the artifact; the argument says whether to replace an old one."""

    def is_current(self) -> bool:
        """Whether the artifact is there and made from these inputs."""
        return artifact.is_current(self.out, self.fingerprint)


def stage(
    name: str,
    kind: str,
    out: Path,
    config: Mapping[str, Any],
    parents: Mapping[str, Artifact],
    make: Callable[[Path], None],
) -> Stage:
    """Describe a stage whose payload `make` writes into the directory it is given."""
    inputs = artifact.fingerprint(kind, config, parents)

    def build(force: bool) -> Artifact:
        if force and artifact.finish(out, inputs):
            return artifact.read(out, kind)
        with artifact.create(out, kind, config=config, parents=parents, force=force) as partial_out:
            make(partial_out)
        return artifact.read(out, kind)

    return Stage(name, out, inputs, build)
