"""A full disk: one clear error, nothing half-written, checkpoints kept."""

import errno
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.artifacts import error_of, make, snapshot
from tprune import artifact
from tprune.disk import disk_space
from tprune.errors import MachineError
from tprune.stage import stage


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


def test_a_file_is_where_a_folder_has_to_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("here")
    for out in (tmp_path / "file" / "out", tmp_path / "file" / "below" / "out"):
        said = error_of(make, out)
        assert said == f"{out}: nothing can be written here · got Not a directory · choose another directory"
    assert snapshot(tmp_path) == {"file": b"here"}


def test_a_stage_in_such_a_place_says_so(tmp_path: Path) -> None:
    made = stage("s", "x", Path("/dev/null/out"), {}, {}, lambda _: None)
    assert error_of(made.make, False) == (
        "/dev/null/out: nothing can be written here · got Not a directory · choose another directory"
    )
