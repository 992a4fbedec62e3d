"""The line-up of a comparison: one dense model on every engine, ours and the peers, at every precision, and bundles."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tprune import artifact
from tprune.artifact import Artifact
from tprune.benchmarks import record
from tprune.benchmarks.comparison import VERSIONS, hashes, open_entry, size_bytes
from tprune.benchmarks.peers.peer import Peer, Translate
from tprune.benchmarks.record import DENSE
from tprune.delivery_config import PRECISIONS, PYTORCH, Export
from tprune.export import description
from tprune.export.bundle import export
from tprune.model import checkpoint
from tprune.model.decode import one_by_one
from tprune.model.search import Search
from tprune.progress import tell
from tprune.provenance import made_by

EXPORT = Export(parity_sentences=3)  # what is timed is compared with the peers' translations besides

Candidate = tuple[str, str, str]
"""Engine, precision and model name."""


@dataclass(frozen=True, eq=False)
class Contestant:
    """A model in one engine's form.

    Attributes:
        engine: Its name, or the peer's.
        precision: fp32, int8 or int8-block.
        version: Of the engine.
        path: The checkpoint's, the bundle's or the peer's directory.
        hashes: Identities of model and bundle, as fields of a row.
        size_bytes: Of weights and graphs.
        parameters: Of the model.
        peer: None for our own engines.
        model: Its name.
    """

    engine: str
    precision: str
    version: str
    path: Path
    hashes: Mapping[str, str]
    size_bytes: int
    parameters: int
    peer: Peer | None = None
    model: str = DENSE

    @property
    def key(self) -> Candidate:
        """What tells it from the others."""
        return self.engine, self.precision, self.model

    @property
    def arithmetic(self) -> str:
        """What it multiplies, fp32 or int8, whatever shares a scale."""
        return self.precision.partition("-")[0]

    def facts(self, threads: int) -> dict[str, Any]:
        """What a result row says of it, for a greedy search with so many threads."""
        return {
            "model": self.model,
            "engine": self.engine,
            "engine_version": self.version,
            "precision": self.precision,
            "threads": threads,
            "decode": "greedy",
            "environment": record.environment(),
            **self.hashes,
            "parameters": self.parameters,
            "size_bytes": self.size_bytes,
            "made_by": made_by(),
        }

    def open(self, threads: int, search: Search) -> Translate:
        """Get ready to translate sentences one at a time.

        Args:
            threads: Threads of one operator.
            search: The model's own; engines of ours have one in their bundle, of which only the greatest
                number of new tokens is replaced.
        """
        if self.peer is not None:
            return self.peer.open(self.path, threads, self.precision, search)
        engine, own = open_entry(self.engine, artifact.read(self.path), threads)
        return one_by_one(engine, replace(own, max_new_tokens=search.max_new_tokens))


def bundled(bundle: Artifact) -> Contestant:
    """A bundle that is there already, of whatever model; its folder's name is the model's."""
    said = description.read(bundle.path)
    return Contestant(
        said.engine,
        said.precision,
        version(VERSIONS[said.engine]),
        bundle.path,
        hashes(bundle),
        size_bytes(bundle),
        said.parameters,
        model=bundle.path.resolve().name,
    )


def line_up(model: Artifact, folder: Path, engines: Sequence[str], peers: Sequence[Peer]) -> Iterator[Contestant]:
    """Export and convert a dense model.

    Args:
        model: A dense model.
        folder: Where bundles and the peers' forms are made.
        engines: Those of ours.
        peers: The others.
    """
    loaded = checkpoint.load(model.path)
    parameters = loaded.num_parameters()
    for engine in engines:
        for precision in ("fp32",) if engine == PYTORCH else PRECISIONS[engine]:
            made = model
            if engine != PYTORCH:
                tell(f"export {engine} {precision}")
                made = export(model.path, folder / engine / precision, engine, EXPORT, precision=precision)
            engine_version = version(VERSIONS[engine])
            yield Contestant(engine, precision, engine_version, made.path, hashes(made), size_bytes(made), parameters)
    for peer in peers:
        for precision in peer.precisions:
            tell(f"convert {peer.name} {precision}")
            path = folder / peer.name / precision
            path.parent.mkdir(parents=True, exist_ok=True)
            peer.convert(loaded, path, precision)
            size = sum(file.stat().st_size for file in path.glob(peer.weights))
            yield Contestant(peer.name, precision, peer.version(), path, hashes(model), size, parameters, peer)
