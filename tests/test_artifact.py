"""Artifacts: whole or absent, found damaged when they are, resumable after a kill."""

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.artifacts import error_of, make, snapshot
from tests.conftest import ROOT
from tprune import __version__, artifact
from tprune import stage as stages
from tprune.json_file import read_json, write_json


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


REPLACING = """
import os, shutil, signal, sys
from pathlib import Path
from tprune import artifact

out, last = Path(sys.argv[1]), int(sys.argv[2])
steps = []

def dying(step):
    def counted(*arguments, **given):
        steps.append(step)
        if len(steps) == last:
            os.kill(os.getpid(), signal.SIGKILL)
        return step(*arguments, **given)
    return counted

with artifact.create(out, "model", config={"a": 2}, force=True) as partial:
    (partial / "scratch" / "checkpoint").write_text("1")
    (partial / "payload").write_text("new")
    Path.rename, shutil.rmtree = dying(Path.rename), dying(shutil.rmtree)
"""
STEPS = 5  # away with what waits in the old one's place, two renames, away with scratch and the old one


@pytest.mark.parametrize("step", range(1, STEPS + 2))
def test_a_kill_while_a_stale_artifact_is_replaced_costs_nothing_of_the_new_one(tmp_path: Path, step: int) -> None:
    out = tmp_path / "out"
    make(out, kind="model")
    done = subprocess.run([sys.executable, "-c", REPLACING, str(out), str(step)], cwd=ROOT, check=False)
    assert done.returncode == (-signal.SIGKILL if step <= STEPS else 0)
    assert artifact.is_current(out, artifact.fingerprint("model", {"a": 2}, {}))
    assert sorted(snapshot(tmp_path)) == ["out/manifest.json", "out/payload"]
    assert (out / "payload").read_text() == "new"


@pytest.mark.parametrize("wanted", [1, 2])
def test_a_stage_takes_what_a_kill_left_without_a_name_only_if_that_is_what_it_would_make(
    tmp_path: Path, wanted: int
) -> None:
    out, partial = tmp_path / "out", tmp_path / "out.partial"
    make(out, config={"a": 0})
    make(partial, config={"a": 2}, text="new")
    made: list[Path] = []
    stage = stages.stage("s", "corpus", out, {"a": wanted}, {}, made.append)
    assert "exists already" in error_of(stage.make, False)
    assert partial.exists()
    assert stage.make(True).manifest["config"] == {"a": wanted}
    assert len(made) == (wanted != 2)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_what_a_kill_left_without_a_name_does_not_replace_what_is_no_artifact(tmp_path: Path) -> None:
    made = make(tmp_path / "out.partial")
    (tmp_path / "out").write_text("mine")
    assert "exists and is no artifact" in error_of(artifact.finish, tmp_path / "out", made.fingerprint)
    assert (tmp_path / "out").read_text() == "mine"


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
    write_json(path, {"ä": [1]})
    assert read_json(path) == {"ä": [1]}
    assert "ä" in path.read_text()
    with pytest.raises(TypeError):
        write_json(path, {"x": object()})
    assert read_json(path) == {"ä": [1]}
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.json"]
    assert error_of(read_json, tmp_path / "b.json") == f"{tmp_path / 'b.json'}: no such file · check the path"


def test_a_directory_by_the_name_of_where_one_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = make(tmp_path / "made")
    monkeypatch.chdir(made.path)
    assert artifact.read(Path()).identity == made.identity
    assert error_of(artifact.require_free, Path(), False).startswith(".: exists already")
