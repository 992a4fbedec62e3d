"""Folders for devices: whole, with hashes, and runnable as they are."""

import subprocess
from collections.abc import Callable
from pathlib import Path

from tests.android_runner.phones import desk
from tests.artifacts import error_of
from tprune import artifact
from tprune.android_runner import journal, package
from tprune.android_runner.build import Runner
from tprune.android_runner.links import Local
from tprune.android_runner.run_file import Job
from tprune.android_runner.transport import Device
from tprune.export.shortlist import FILE


def test_a_folder_that_can_be_pushed_by_hand(
    runners: Callable[[str], Runner], small_bundles: Callable[[str, str], Path], tmp_path: Path
) -> None:
    runner, bundle = runners("onnxruntime"), artifact.read(small_bundles("onnxruntime", "fp32"), "bundle")
    made = package.pack(tmp_path / "out", runner, bundle, Job("whole", 1, runs=3), [[5, 6], [7], [8]])
    names = {Path(name).name for name in made.manifest["files"]}
    assert {"ort_runner", "libonnxruntime.so.1", "translate.onnx", "model.onnx.data", "run.txt", "start.sh"} <= names
    assert not {"bundle.json", "tokenizer.json", "source.spm"} & names  # only the host needs them
    moved = tmp_path / "elsewhere"
    made.path.rename(moved)
    run = moved / "runs" / "one"
    for start, folder in ((run / "start.sh", tmp_path), ("start.sh", run)):  # from elsewhere, and from beside it
        subprocess.run(["sh", start], check=True, timeout=60, cwd=folder)
        assert len(journal.finished((run / "journal.jsonl").read_bytes(), "here").timed) == 3
        (run / "journal.jsonl").unlink()


def test_a_folder_is_pushed_and_started_by_hand_over_adb(
    runners: Callable[[str], Runner], small_bundles: Callable[[str, str], Path], tmp_path: Path
) -> None:
    runner, bundle = runners("onnxruntime"), artifact.read(small_bundles("onnxruntime", "int8"), "bundle")
    made, there = (
        package.pack(tmp_path / "out", runner, bundle, Job("whole", 1, runs=2), [[5, 6], [7]]),
        tmp_path / "one",
    )
    with desk(tmp_path) as phones:
        to = ("-s", phones.serials[1])
        phones.call(*to, "push", str(made.path), str(there))
        phones.call(*to, "shell", f"sh {there}/runs/one/start.sh")
        phones.call(*to, "pull", f"{there}/runs/one/journal.jsonl", str(tmp_path / "pulled"))
    assert len(journal.finished((tmp_path / "pulled").read_bytes(), "there").timed) == 2


def test_only_what_changed_is_pushed(
    runners: Callable[[str], Runner], small_bundles: Callable[..., Path], tmp_path: Path
) -> None:
    runner, device = runners("onnxruntime"), Device(Local(str(tmp_path / "device")))
    few = artifact.read(small_bundles("onnxruntime", "fp32", True), "bundle")
    assert not any(FILE in name for name in package.files(runner, few))  # candidates are looked up on the host
    fp32, int8 = (artifact.read(small_bundles("onnxruntime", precision), "bundle") for precision in ("fp32", "int8"))
    first = device.push(package.files(runner, fp32))
    assert {name.partition("/")[0] for name in first} == {"runners", "graphs"}
    assert device.push(package.files(runner, fp32)) == []
    assert {name.partition("/")[0] for name in device.push(package.files(runner, int8))} == {"graphs"}


def test_a_runner_for_another_engine(
    runners: Callable[[str], Runner], small_bundles: Callable[[str, str], Path]
) -> None:
    bundle = artifact.read(small_bundles("executorch", "fp32"), "bundle")
    assert "bundle for another engine · got executorch · wanted onnxruntime" in error_of(
        package.files, runners("onnxruntime"), bundle
    )
