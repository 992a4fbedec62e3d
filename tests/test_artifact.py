"""Artifacts: whole or absent, found damaged when they are, resumable after a kill."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT
from tprune import __version__, artifact
from tprune.artifact import Artifact
from tprune.disk import disk_space
from tprune.errors import MachineError, TpruneError


def make(out: Path, text: str = "hello", kind: str = "corpus", **given: Any) -> Artifact:
    with artifact.create(out, kind, **({"config": {"a": 1}} | given)) as partial:
        (partial / "data").mkdir()
        (partial / "data" / "x.txt").write_text(text)
        (partial / "y.bin").write_bytes(b"\0\1")
    return artifact.read(out, kind)


def snapshot(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def error_of(action: Any, *arguments: Any, **given: Any) -> str:
    with pytest.raises(TpruneError) as caught:
        action(*arguments, **given)
    return str(caught.value)


def test_round_trip(tmp_path: Path) -> None:
    parent = make(tmp_path / "parent")
    made = make(tmp_path / "out", kind="model", config={"lr": 0.1}, parents={"corpus": parent})
    assert made.kind == "model"
    assert sorted(snapshot(made.path)) == ["data/x.txt", "manifest.json", "y.bin"]
    assert {path.name for path in tmp_path.iterdir()} == {"parent", "out"}
    manifest = json.loads((made.path / "manifest.json").read_text())
    assert manifest["schema"] == 1
    assert manifest["config"] == {"lr": 0.1}
    assert manifest["parents"] == {"corpus": {"kind": "corpus", "identity": parent.identity}}
    assert manifest["made_by"]["tprune"] == __version__
    assert manifest["files"]["y.bin"] == {
        "sha256": "b413f47d13ee2fe6c845b2ee141af81de858df4ec549a58b7970bb96645bc8d2",
        "bytes": 2,
    }
    assert manifest["fingerprint"] == artifact.fingerprint("model", {"lr": 0.1}, {"corpus": parent})


def test_identity_is_that_of_the_payload_and_fingerprint_that_of_the_inputs(tmp_path: Path) -> None:
    one, same = make(tmp_path / "one"), make(tmp_path / "same", config={"a": 2})
    other = make(tmp_path / "other", text="bye")
    assert one.identity == same.identity != other.identity
    assert one.fingerprint != same.fingerprint
    assert one.fingerprint == other.fingerprint
    child = artifact.fingerprint("model", {}, {"corpus": one})
    assert child == artifact.fingerprint("model", {}, {"corpus": same})
    assert child != artifact.fingerprint("model", {}, {"corpus": other})
    assert child != artifact.fingerprint("model", {}, {"text": one})
    assert child != artifact.fingerprint("bundle", {}, {"corpus": one})
    assert artifact.is_current(one.path, one.fingerprint)
    assert not artifact.is_current(one.path, same.fingerprint)
    assert not artifact.is_current(tmp_path / "nowhere", one.fingerprint)


@pytest.mark.parametrize("stop", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_an_exception_leaves_nothing_or_the_old(tmp_path: Path, stop: type[BaseException]) -> None:
    out = tmp_path / "out"
    for old in (False, True):
        before = snapshot(make(out).path) if old else {}
        with pytest.raises(stop), artifact.create(out, "corpus", config={}, force=True) as partial:
            (partial / "x").write_text("half")
            raise stop
        assert [path.name for path in tmp_path.iterdir()] == (["out"] if old else [])
        assert not old or snapshot(out) == before


def test_force_replaces(tmp_path: Path) -> None:
    make(tmp_path / "out")
    made = make(tmp_path / "out", text="new", force=True)
    assert (made.path / "data" / "x.txt").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_scratch_survives_a_kill_for_the_same_inputs_only(tmp_path: Path) -> None:
    out, partial_out = tmp_path / "out", tmp_path / "out.partial"

    def attempt(config: dict[str, Any], kind: str = "model") -> bool:
        """Whether the checkpoint of the last attempt is there again."""
        with pytest.raises(KeyboardInterrupt), artifact.create(out, kind, config=config) as partial:
            found = (partial / "scratch" / "checkpoint").exists()
            assert not (partial / "payload").exists()
            (partial / "scratch" / "checkpoint").write_text("1")
            (partial / "payload").write_text("half")
            raise KeyboardInterrupt
        assert not out.exists()
        assert partial_out.exists()
        return found

    assert not attempt({"a": 1})
    assert attempt({"a": 1})
    assert not attempt({"a": 2})
    assert attempt({"a": 2})
    assert not attempt({"a": 2}, kind="corpus")
    with artifact.create(out, "corpus", config={"a": 2}) as partial:
        assert (partial / "scratch" / "checkpoint").read_text() == "1"
        (partial / "payload").write_text("whole")
    assert sorted(snapshot(out)) == ["manifest.json", "payload"]
    assert not partial_out.exists()


KILLED = """
import os, signal, sys
from pathlib import Path
from tprune import artifact

out, where, last = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
calls, rename = [], Path.rename

def dying_rename(path, target):
    calls.append(target)
    if where == "between" and len(calls) == last:
        os.kill(os.getpid(), signal.SIGKILL)
    return rename(path, target)

Path.rename = dying_rename
if where == "hashing":
    artifact.sha256 = lambda path: os.kill(os.getpid(), signal.SIGKILL)
with artifact.create(out, "model", config={"a": 1}, force=True) as partial:
    (partial / "scratch" / "checkpoint").write_text("1")
    (partial / "payload").write_text("new")
    if where == "writing":
        os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("where", ["writing", "hashing", "between"])
@pytest.mark.parametrize("old", [False, True])
def test_sigkill_at_any_moment_leaves_the_old_or_the_new(tmp_path: Path, where: str, old: bool) -> None:
    out = tmp_path / "out"
    before = make(out, kind="model").manifest if old else None
    # the last rename is the second one where there is an old artifact
    arguments = [str(out), where, "2" if old else "1"]
    done = subprocess.run([sys.executable, "-c", KILLED, *arguments], cwd=ROOT, check=False)
    assert done.returncode == -signal.SIGKILL
    if where == "between":  # the new one was complete, only its name was missing
        assert not out.exists()
        assert (artifact.read(out, "model").path / "payload").read_text() == "new"
        assert [path.name for path in tmp_path.iterdir()] == ["out"]
        return
    assert out.exists() == old
    assert not old or artifact.read(out, "model").manifest == before
    with artifact.create(out, "model", config={"a": 1}, force=True) as partial:
        assert (partial / "scratch" / "checkpoint").read_text() == "1"
        assert not (partial / "payload").exists()
        (partial / "payload").write_text("new")
    assert artifact.read(out, "model").manifest != before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_backup_beside_the_artifact_is_not_touched(tmp_path: Path) -> None:
    for name in ("out.old", "out.bak"):
        make(tmp_path / name, text=name)
    make(tmp_path / "out")
    make(tmp_path / "out", text="new", force=True)
    assert {artifact.read(path).path.name for path in tmp_path.iterdir()} == {"out", "out.old", "out.bak"}


@pytest.mark.parametrize("call", ["is_current", "read", "create"])
def test_a_replacement_killed_between_its_renames_is_undone_by_whoever_comes_first(tmp_path: Path, call: str) -> None:
    out = tmp_path / "out"
    old = make(out)
    out.rename(tmp_path / ".out.replaced")
    if call == "is_current":
        assert artifact.is_current(out, old.fingerprint)
    elif call == "read":
        assert artifact.read(out).manifest == old.manifest
    else:
        assert "exists already" in error_of(make, out)
    assert artifact.read(out).identity == old.identity
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_damage_is_found(tmp_path: Path) -> None:
    made = make(tmp_path / "out")
    (made.path / "data" / "x.txt").write_text("jello")
    fix = "delete the directory and make it again"
    assert error_of(artifact.read, made.path) == (
        f"{made.path}: damaged artifact · data/x.txt: content changed · {fix}"
    )
    assert artifact.read(made.path, verify=False).kind == "corpus"
    (made.path / "data" / "x.txt").write_text("longer")
    (made.path / "y.bin").unlink()
    expected = f"{made.path}: damaged artifact · data/x.txt: 6 bytes, 5 recorded; y.bin: missing · {fix}"
    assert error_of(artifact.read, made.path) == expected
    assert error_of(artifact.read, made.path, verify=False) == expected
    assert error_of(artifact.is_current, made.path, made.fingerprint) == expected


def test_missing_foreign_and_wrong_artifacts_are_refused(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    assert error_of(artifact.read, gone) == (f"{gone}: no such artifact · check the path, or make it with `tprune run`")
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "folder", tmp_path / "file"):
        assert error_of(artifact.read, path) == (
            f"{path}: not an artifact: it has no manifest.json · give a directory that a tprune stage wrote"
        )
    made = make(tmp_path / "out")
    assert error_of(artifact.read, made.path, "model") == (
        f"{made.path}: wrong kind of artifact · got corpus · wanted model · give the directory of a model"
    )


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
        ({"files": ["x"]}, "corrupt manifest · got no file table · "),
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


def test_what_is_in_the_way_stays(tmp_path: Path) -> None:
    out = tmp_path / "out"
    before = snapshot(make(out).path)
    assert error_of(make, out) == (f"{out}: exists already · choose another --out, or replace it with --force")
    assert snapshot(out) == before
    folder, file = tmp_path / "photos", tmp_path / "file"
    folder.mkdir()
    (folder / "cat.jpg").write_text("meow")
    file.write_text("mine")
    for path in (folder, file):
        for force in (False, True):
            assert error_of(make, path, force=force) == (
                f"{path}: exists and is no artifact · choose another --out; nothing was touched"
            )
    assert (folder / "cat.jpg").read_text() == "meow"
    assert file.read_text() == "mine"
    (tmp_path / "empty").mkdir()
    assert make(tmp_path / "empty").kind == "corpus"
    assert not list(tmp_path.glob("*.partial"))


def test_json_is_whole_or_absent(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    artifact.write_json(path, {"ä": [1]})
    assert artifact.read_json(path) == {"ä": [1]}
    assert "ä" in path.read_text()
    with pytest.raises(TypeError):
        artifact.write_json(path, {"x": object()})
    assert artifact.read_json(path) == {"ä": [1]}
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.json"]
    assert error_of(artifact.read_json, tmp_path / "b.json") == f"{tmp_path / 'b.json'}: no such file · check the path"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = shutil.which("mount")
    if (
        mount is None
        or subprocess.run(
            [mount, "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(disk)], capture_output=True, check=False
        ).returncode
    ):
        pytest.skip("skipped, needs root to mount a tmpfs")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


FULL = "no space left on the disk"
FREE = "free some space or choose another --out, then run the same command again"


@pytest.mark.parametrize("old", [False, True])
def test_a_full_disk_leaves_nothing_half_written(small_disk: Path, old: bool) -> None:
    out = small_disk / "out"
    before = snapshot(make(out).path) if old else {}
    with pytest.raises(MachineError) as caught, artifact.create(out, "model", config={}, force=True) as partial:
        (partial / "weights").write_bytes(bytes(1 << 20))
    assert str(caught.value) == f"{out}: {FULL} · {FREE}"
    assert [path.name for path in small_disk.iterdir()] == (["out"] if old else [])
    assert (snapshot(out) if old else {}) == before


def test_a_disk_that_is_full_from_the_start_or_at_the_manifest(small_disk: Path) -> None:
    filler = small_disk / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while file.write(bytes(4096)):
                pass
        except OSError as error:
            assert error.errno == errno.ENOSPC
    with pytest.raises(MachineError, match=FULL):
        make(small_disk / "out")
    assert [path.name for path in small_disk.iterdir()] == ["filler"]
    filler.unlink()
    with pytest.raises(MachineError, match=FULL), artifact.create(small_disk / "out", "model", config={}) as partial:
        (partial / "weights").write_bytes(b"w")
        with filler.open("wb", buffering=0) as file, pytest.raises(OSError):
            while file.write(bytes(4096)):
                pass
    assert [path.name for path in small_disk.iterdir()] == ["filler"]


def test_checkpoints_outlive_a_full_disk(small_disk: Path) -> None:
    out = small_disk / "out"
    with pytest.raises(MachineError), artifact.create(out, "model", config={}) as partial:
        (partial / "scratch" / "checkpoint-1").write_text("1")
        (partial / "weights").write_bytes(bytes(1 << 20))
    with artifact.create(out, "model", config={}) as partial:
        assert (partial / "scratch" / "checkpoint-1").read_text() == "1"
        (partial / "weights").write_bytes(b"small")
    assert sorted(snapshot(out)) == ["manifest.json", "weights"]


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
        OSError(errno.EDQUOT, os.strerror(errno.EDQUOT)),
        RuntimeError("[enforce fail at inline_container.cc:664] . unexpected pos 832 vs 726"),
        RuntimeError("PytorchStreamWriter failed writing file data/0: file write failed"),
        Exception("Error while serializing: I/O error: No space left on device (os error 28)"),
    ],
)
def test_the_many_faces_of_a_full_disk(tmp_path: Path, error: Exception) -> None:
    with pytest.raises(MachineError, match=FULL), disk_space(tmp_path):
        raise error


def test_other_errors_pass_as_they_are(tmp_path: Path) -> None:
    error = OSError(errno.EACCES, "Permission denied")
    with pytest.raises(OSError) as caught, disk_space(tmp_path):
        raise error
    assert caught.value is error
