"""What an engine's refusals are called in words."""

from pathlib import Path

from tprune.errors import ArtifactError, MachineError


def not_installed(engine: str) -> MachineError:
    """The engine's package is missing."""
    return MachineError(f"{engine} is not installed", fix=f"pip install {engine}")


def unreadable(path: Path, error: Exception) -> ArtifactError:
    """The engine refuses to load a file of the bundle."""
    return ArtifactError(
        "the engine does not accept this graph",
        where=path,
        got=str(error).strip().partition("\n")[0],
        fix="export the bundle again",
    )
