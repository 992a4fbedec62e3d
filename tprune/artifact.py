"""A stage's result: a directory with a payload and a `manifest.json`.

The payload is written to `<out>.partial`, hashed, and renamed, so that a kill at any moment
leaves either the old artifact or the new one. A `.partial` made from the same inputs is
continued, any other is discarded. No name can be exchanged for another in one step everywhere, so
a kill between the renames is put right by whoever looks for the artifact next, and a kill before
them by whoever wants what was finished.
"""

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tprune import ranks, stopwatch
from tprune.disk import disk_space, make_folder
from tprune.errors import ArtifactError
from tprune.json_file import read_json, read_json_or_none, write_json
from tprune.provenance import environment, made_by

SCHEMA = 1
MANIFEST = "manifest.json"
SCRATCH = "scratch"  # inside a .partial: survives a kill, never part of the artifact
INPUTS = "inputs.json"
AGAIN = "delete the directory and make it again"
FORMS: Mapping[str, type] = {"kind": str, "fingerprint": str, "config": dict, "parents": dict, "files": dict}
"""What every manifest holds, and as what."""


@dataclass(frozen=True)
class Artifact:
    """A finished artifact directory and what its manifest says."""

    path: Path
    manifest: Mapping[str, Any]

    @property
    def kind(self) -> str:
        """What it is: corpus, model, analysis, latency-table, plan, validation, shortlist, bundle, results, report."""
        return str(self.manifest["kind"])

    @property
    def identity(self) -> str:
        """Hash over the payload's names and hashes; equal payloads have equal identities."""
        return _digest({name: entry["sha256"] for name, entry in self.manifest["files"].items()})

    @property
    def fingerprint(self) -> str:
        """Hash over what the artifact was made from; a stage is stale when it changes."""
        return str(self.manifest["fingerprint"])


def fingerprint(kind: str, config: Mapping[str, Any], parents: Mapping[str, Artifact]) -> str:
    """Hash over kind, resolved config and the parents' identities."""
    return _digest([SCHEMA, kind, config, {name: parent.identity for name, parent in parents.items()}])


@contextmanager
def create(
    out: Path,
    kind: str,
    *,
    config: Mapping[str, Any],
    parents: Mapping[str, Artifact] | None = None,
    force: bool = False,
) -> Iterator[Path]:
    """Yield `<out>.partial` to write the payload into; hash and rename it on a clean exit.

    What is written under `scratch/` of the partial directory survives a kill and is there again
    when the same inputs come back, but is removed before the artifact is finished. After an
    exception the partial directory stays only if it holds scratch. Of several processes the first
    one writes, see `ranks`.

    Args:
        out: The artifact's directory.
        kind: What it is.
        config: JSON-able resolved settings that made it.
        parents: Artifacts it was made from, by role.
        force: Replace a finished artifact at `out`.

    Raises:
        ArtifactError: `out` exists and `force` is off, or is no artifact.
        MachineError: The disk is full.
    """
    parents = parents or {}
    partial = _partial(out)
    inputs = {"fingerprint": fingerprint(kind, config, parents)}
    if ranks.is_follower():
        with ranks.follow(
            partial / SCRATCH,
            started=lambda: read_json_or_none(partial / SCRATCH / INPUTS) == inputs,
            finished=lambda: (read_json_or_none(out / MANIFEST) or {}).get("fingerprint") == inputs["fingerprint"],
        ) as own:
            yield own
        return
    require_free(out, force)
    if partial.exists() and read_json_or_none(partial / SCRATCH / INPUTS) != inputs:
        shutil.rmtree(partial)
    for leftover in partial.glob("*") if partial.exists() else ():
        if leftover.name != SCRATCH:
            _remove(leftover)
    with disk_space(out):
        try:
            make_folder(partial / SCRATCH, out)
            spent = stopwatch.start(partial / SCRATCH)
            write_json(partial / SCRATCH / INPUTS, inputs)
            yield partial
            write_json(partial / MANIFEST, _manifest(partial, kind, config, parents, spent()))
            _replace(partial, out)
        except BaseException:
            scratch = partial / SCRATCH
            if (partial / MANIFEST).exists():
                raise  # complete: `_settle` gives it its name
            if not scratch.exists() or {entry.name for entry in scratch.iterdir()} <= {INPUTS, stopwatch.FILE}:
                shutil.rmtree(partial, ignore_errors=True)
            raise


def read(path: Path, kind: str | None = None, *, verify: bool = True) -> Artifact:
    """Read an artifact's manifest and compare its files with the recorded hashes.

    Args:
        path: The artifact's directory.
        kind: The kind it has to be; None accepts any.
        verify: Hash every file; off, only presence and size are compared.

    Raises:
        ArtifactError: Missing, no manifest, unknown schema, another kind, or damaged files.
    """
    _settle(path)
    if not path.exists():
        raise ArtifactError("no such artifact", where=path, fix="check the path, or make it with `tprune run`")
    manifest = _read_manifest(path)
    if kind is not None and manifest["kind"] != kind:
        raise ArtifactError(
            "wrong kind of artifact",
            where=path,
            got=manifest["kind"],
            wanted=kind,
            fix=f"give the directory of a {kind}",
        )
    found = [_damage(path / name, name, entry, verify) for name, entry in manifest["files"].items()]
    if damaged := [problem for problem in found if problem]:
        raise ArtifactError("damaged artifact", where=path, problems=damaged, fix=AGAIN)
    return Artifact(path, manifest)


def is_current(path: Path, expected_fingerprint: str) -> bool:
    """Whether a finished, undamaged artifact made from these very inputs lies at `path`, see `finish` too."""
    if not finish(path, expected_fingerprint):
        _settle(path)
    return path.exists() and read(path).fingerprint == expected_fingerprint


def finish(out: Path, wanted: str) -> bool:
    """Give the complete artifact of this fingerprint its name, if a kill left it without; whether there was one.

    Not where several processes make it, of which the others would wait for the first one's work.

    Raises:
        ArtifactError: Something that is no artifact has the name.
    """
    partial = _partial(out)
    if ranks.are_several() or (read_json_or_none(partial / MANIFEST) or {}).get("fingerprint") != wanted:
        return False
    require_free(out, force=True)
    if partial.exists():  # else the old one was out of its way already
        _replace(partial, out)
    return True


def require_free(out: Path, force: bool) -> None:
    """Refuse to replace what is no artifact, and without `force` what is one.

    Raises:
        ArtifactError: Something is in the way.
    """
    _settle(out)
    if not out.exists():
        return
    if not (out.is_dir() and ((out / MANIFEST).exists() or not any(out.iterdir()))):
        raise ArtifactError("exists and is no artifact", where=out, fix="choose another --out; nothing was touched")
    if not force and (out / MANIFEST).exists():
        raise ArtifactError("exists already", where=out, fix="choose another --out, or replace it with --force")


def sha256(path: Path) -> str:
    """Hash a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _manifest(
    root: Path, kind: str, config: Mapping[str, Any], parents: Mapping[str, Artifact], seconds: float
) -> dict[str, Any]:
    scratch = root / SCRATCH  # still there, so that a kill while hashing costs nothing
    files = sorted(path for path in root.rglob("*") if path.is_file() and scratch not in path.parents)
    return {
        "schema": SCHEMA,
        "kind": kind,
        "fingerprint": fingerprint(kind, config, parents),
        "made_by": made_by(),
        "parents": {name: {"kind": parent.kind, "identity": parent.identity} for name, parent in parents.items()},
        "config": config,
        "files": {
            str(path.relative_to(root)): {"sha256": sha256(path), "bytes": path.stat().st_size} for path in files
        },
        "seconds": round(seconds, 1),
        "environment": environment(),
    }


def _read_manifest(path: Path) -> dict[str, Any]:
    if not path.is_dir() or not (path / MANIFEST).is_file():
        raise ArtifactError(
            f"not an artifact: it has no {MANIFEST}", where=path, fix="give a directory that a tprune stage wrote"
        )
    manifest = read_json(path / MANIFEST)
    if not isinstance(manifest, dict) or manifest.get("schema") != SCHEMA:
        found = manifest.get("schema") if isinstance(manifest, dict) else type(manifest).__name__
        raise ArtifactError(
            "manifest of an unknown schema",
            where=path / MANIFEST,
            got=found,
            wanted=SCHEMA,
            fix="make the artifact again with this version of tprune",
        )
    if wrong := [key for key, form in FORMS.items() if not isinstance(manifest.get(key), form)]:
        raise ArtifactError("corrupt manifest", where=path / MANIFEST, got=f"no {', '.join(wrong)}", fix=AGAIN)
    return manifest


def _damage(path: Path, name: str, entry: object, verify: bool) -> str | None:
    if not isinstance(entry, dict) or not {"sha256", "bytes"} <= entry.keys():
        return f"{name}: corrupt entry in the manifest"
    if Path(name).is_absolute() or ".." in Path(name).parts:
        return f"{name}: points outside the artifact"
    if not path.is_file():
        return f"{name}: missing"
    if path.stat().st_size != entry["bytes"]:
        return f"{name}: {path.stat().st_size} bytes, {entry['bytes']} recorded"
    if verify and sha256(path) != entry["sha256"]:
        return f"{name}: content changed"
    return None


def _replace(partial: Path, out: Path) -> None:
    """Give a partial directory that has its manifest the artifact's name; what nobody needs goes last."""
    if out.exists():
        shutil.rmtree(_replaced(out), ignore_errors=True)
        out.rename(_replaced(out))
    partial.rename(out)
    _sweep(out)


def _settle(out: Path) -> None:
    """Finish a kill in the middle of `_replace`: with the new artifact, else with the old one."""
    if (out / MANIFEST).exists():
        _sweep(out)
    elif out.exists():
        return
    elif (_partial(out) / MANIFEST).exists():
        _replace(_partial(out), out)
    elif _replaced(out).exists():
        _replaced(out).rename(out)


def _sweep(out: Path) -> None:
    """Remove what a finished artifact no longer needs: its scratch, and the one before it."""
    shutil.rmtree(out / SCRATCH, ignore_errors=True)
    shutil.rmtree(_replaced(out), ignore_errors=True)


def _partial(out: Path) -> Path:
    return out.absolute().with_name(out.absolute().name + ".partial")  # "." has a name too


def _replaced(out: Path) -> Path:
    """Where the old artifact waits while the new one takes its name; no name a user would give a backup."""
    return out.absolute().with_name(f".{out.absolute().name}.replaced")


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False).encode()).hexdigest()
