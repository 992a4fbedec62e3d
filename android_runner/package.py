"""What goes to a device for a bundle: the runner with its libraries, and the graphs; each under a name of its content.

A folder of it can also be pushed by hand, see `tprune pack`.
"""

import shutil
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from tprune import artifact
from tprune.android_runner import run_file
from tprune.android_runner.build import Runner
from tprune.android_runner.run_file import Job
from tprune.artifact import Artifact
from tprune.errors import ArtifactError
from tprune.export import description
from tprune.export.description import FILE, Bundle

RUNNERS, GRAPHS, RUNS = "runners", "graphs", "runs"
START = "start.sh"


def files(runner: Runner, bundle: Artifact) -> dict[str, Path]:
    """Files by name on the device.

    Args:
        runner: For the bundle's engine and the device's machine.
        bundle: A bundle.

    Raises:
        ArtifactError: The runner is for another engine.
    """
    said = description.read(bundle.path)
    if said.engine != runner.engine:
        raise ArtifactError("bundle for another engine", where=bundle.path, got=said.engine, wanted=runner.engine)
    beside = {f"{RUNNERS}/{runner.folder.name}/{path.name}": path for path in sorted(runner.folder.iterdir())}
    return beside | {f"{graphs_of(bundle)}/{name}": bundle.path / name for name in _graph_files(bundle, said)}


def command(runner: Runner) -> list[str]:
    """What starts the runner in a folder below RUNS."""
    folder = f"../../{RUNNERS}/{runner.folder.name}"
    beside = {".": folder, "LD_LIBRARY_PATH=.": f"LD_LIBRARY_PATH={folder}"}
    words = [f"{folder}{word[1:]}" if word.startswith("./") else beside.get(word, word) for word in runner.command]
    return [*words, run_file.RUN]


def write_run(
    folder: Path, bundle: Artifact, job: Job, sentences: Sequence[Sequence[int]], most_tokens: int | None = None
) -> None:
    """Write what a run is told for a folder below RUNS; errors as for `run_file.write`.

    Args:
        folder: An existing folder here.
        bundle: A bundle.
        job: How to run it.
        sentences: Source ids.
        most_tokens: Greatest length of every translation, in place of the bundle's own rule.
    """
    said = description.read(bundle.path)
    if most_tokens is not None:
        said = said.model_copy(update={"search": {**said.search, "max_new_tokens": most_tokens}})
    run_file.write(folder, said, job, sentences, f"../../{graphs_of(bundle)}")


def pack(
    out: Path,
    runner: Runner,
    bundle: Artifact,
    job: Job,
    sentences: Sequence[Sequence[int]],
    force: bool = False,
) -> Artifact:
    """Write everything into one folder that can be pushed as it is; its manifest has every file's hash.

    Args:
        out: The folder.
        runner: For the bundle's engine and the device's machine.
        bundle: A bundle.
        job: How to run it.
        sentences: Source ids.
        force: Replace a finished folder at `out`.

    Raises:
        InputError: Sentences that the bundle cannot take, or no such mode.
        ArtifactError: `out` exists and `force` is off, or the runner is for another engine.
    """
    config: dict[str, Any] = {
        "engine": runner.engine,
        "abi": runner.abi,
        "runner": runner.folder.name,
        "mode": job.mode,
        "threads": job.threads,
        "sentences": len(sentences),
    }
    with artifact.create(out, "device", config=config, parents={"bundle": bundle}, force=force) as partial:
        for name, path in files(runner, bundle).items():
            target = partial / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)
        run = partial / RUNS / "one"
        run.mkdir(parents=True)
        write_run(run, bundle, job, sentences)
        (run / START).write_text(f'cd "$(dirname "$0")" && exec {" ".join(command(runner))}\n', encoding="ascii")
    return artifact.read(out)


def graphs_of(bundle: Artifact) -> str:
    """The folder on a device of a bundle's graphs."""
    return f"{GRAPHS}/{bundle.identity[:16]}"


def _graph_files(bundle: Artifact, said: Bundle) -> list[str]:
    """The graphs and the weights beside them, not what only the host needs."""
    host = {FILE, *said.tokenizer, said.shortlist}
    return [name for name in bundle.manifest["files"] if name not in host and PurePosixPath(name).name == name]
