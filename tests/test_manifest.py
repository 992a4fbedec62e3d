"""Manifests that are damaged, foreign or hostile are refused in words."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.artifacts import error_of, make
from tprune import artifact
from tprune.artifact import Artifact


def rewritten(made: Artifact, **changes: Any) -> Path:
    path = made.path / "manifest.json"
    content = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))
    return path


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schema": 2}, "manifest of an unknown schema · got 2 · wanted 1 · "),
        ({"schema": None}, "manifest of an unknown schema · wanted 1 · "),
        ({"files": None}, "corrupt manifest · got no files · delete the directory and make it again"),
        ({"files": ["x"]}, "corrupt manifest · got no files · "),
        ({"config": [], "parents": None}, "corrupt manifest · got no config, parents · "),
        ({"kind": None, "fingerprint": None}, "corrupt manifest · got no kind, fingerprint · "),
    ],
)
def test_manifests_that_cannot_be_used(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    made = make(tmp_path / "out")
    path = rewritten(made, **changes)
    assert error_of(artifact.read, made.path).startswith(f"{path}: {message}")


def test_manifests_that_are_no_manifests(tmp_path: Path) -> None:
    made = make(tmp_path / "out")
    path = made.path / "manifest.json"
    path.write_text("[1]")
    assert error_of(artifact.read, made.path) == (
        f"{path}: manifest of an unknown schema · got list · wanted 1 · "
        "make the artifact again with this version of tprune"
    )
    path.write_bytes(b"{\xff")
    assert error_of(artifact.read, made.path).startswith(f"{path}: not valid JSON · got ")
    path.write_text('{"schema": 1')
    assert error_of(artifact.read, made.path).endswith("· make the damaged file again")


@pytest.mark.parametrize(
    ("name", "entry", "problem"),
    [
        ("../secret", {"sha256": "", "bytes": 3}, "../secret: points outside the artifact"),
        ("data/../../secret", {"sha256": "", "bytes": 3}, "data/../../secret: points outside the artifact"),
        ("/etc/passwd", {"sha256": "", "bytes": 3}, "/etc/passwd: points outside the artifact"),
        ("y.bin", {"bytes": 2}, "y.bin: corrupt entry in the manifest"),
        ("y.bin", "abc", "y.bin: corrupt entry in the manifest"),
    ],
)
def test_entries_that_lead_astray(tmp_path: Path, name: str, entry: Any, problem: str) -> None:
    (tmp_path / "secret").write_text("key")
    made = make(tmp_path / "out")
    rewritten(made, files={**made.manifest["files"], name: entry})
    assert problem in error_of(artifact.read, made.path)
