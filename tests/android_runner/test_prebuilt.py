"""Runners that the user has built: taken as they are, under a name of their content, whatever the folder is called."""

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.android_runner.contestants import QUICK, Given, open_session, rows_of
from tests.artifacts import error_of
from tprune import delivery
from tprune.android_runner import build, execution, journal
from tprune.android_runner.build import Runner, Target
from tprune.android_runner.links import Local
from tprune.android_runner.run_file import Job
from tprune.android_runner.transport import Device
from tprune.delivery_config import DeviceBench
from tprune.export import description
from tprune.export.runtime import open_bundle
from tprune.model import decode
from tprune.model.search import Search

VARIABLE = "TPRUNE_RUNNER_X86_64"


@pytest.fixture
def own(runners: Callable[[str], Runner], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder as a user might have it, and no way to build a runner."""
    folder = tmp_path / "my build"
    shutil.copytree(runners("onnxruntime").folder, folder)
    (folder / "et_runner").write_text("not for these bundles")
    (folder / "ort_runner").chmod(0o644)  # as unzip leaves it
    (folder / "CMakeFiles").mkdir()
    monkeypatch.setenv(VARIABLE, str(folder))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(build, "compile_sources", None)
    return folder


def test_a_session_with_the_users_own_runner(own: Path, given: Given, tmp_path: Path) -> None:
    rows = rows_of(given, open_session(tmp_path, settings=QUICK.model_copy(update={"cold_starts": 1})))
    assert [(row.model, row.latency_ms is not None) for row in rows] == [("dense", True), ("small", True)]
    pushed = list((tmp_path / "device" / "runners").iterdir())
    assert len(pushed) == 1 and re.fullmatch("ort_runner-x86_64-given-[0-9a-f]{16}", pushed[0].name)
    assert {path.name for path in pushed[0].iterdir()} == {"ort_runner", "libonnxruntime.so.1"}


def test_a_folder_to_push_by_hand_has_it_too(own: Path, given: Given, tmp_path: Path) -> None:
    made = delivery.pack(
        tmp_path / "out", given.bundles["small"], given.text, "x86_64", DeviceBench(sentences=2), False
    )
    assert "given" in made.manifest["config"]["runner"]
    script = made.path / "runs" / "one" / "start.sh"
    subprocess.run(["sh", str(script)], check=True, timeout=60)
    assert journal.parse((script.parent / "journal.jsonl").read_bytes()).complete


def test_another_content_has_another_name(own: Path) -> None:
    first = build.build("onnxruntime")
    assert build.build("onnxruntime") == first and first.command == ("env", "LD_LIBRARY_PATH=.", "./ort_runner")
    with (own / "libonnxruntime.so.1").open("ab") as file:
        file.write(b"built anew")
    (own / "et_runner").write_text("this changes nothing")
    second = build.build("onnxruntime")
    assert second.folder.name != first.folder.name
    assert (first.folder / "libonnxruntime.so.1").exists()  # a session that was begun with it goes on
    for one in (first, second):
        assert os.access(one.folder / "ort_runner", os.X_OK)


def test_what_is_no_runner_is_refused(own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (own / "my library.so").touch()
    assert "no name for a file on a device · got 'my library.so'" in error_of(build.build, "onnxruntime")
    (own / "my library.so").unlink()
    monkeypatch.setenv("TPRUNE_RUNNER_AARCH64", str(own))
    assert error_of(build.build, "onnxruntime", "aarch64") == (
        f"{own}/ort_runner: the runner is for another machine · got x86_64 · wanted aarch64 · "
        "name the folder of one for aarch64 in TPRUNE_RUNNER_AARCH64"
    )
    monkeypatch.setenv(VARIABLE, str(tmp_path / "absent"))
    assert error_of(build.build, "onnxruntime") == (
        f"{VARIABLE}: no runner in the folder · got {tmp_path}/absent · wanted ort_runner or et_runner and the "
        "libraries that it needs · name the folder that it was built in, or unset the variable"
    )
    (own / "ort_runner").unlink()
    monkeypatch.setenv(VARIABLE, str(own))
    with pytest.raises(TypeError):  # only ExecuTorch's is given: this one would be built
        build.build("onnxruntime")


@pytest.mark.slow
def test_a_library_that_is_loaded_before_all_others_is_kept_from_another_c_library(
    runners: Callable[[str], Runner], given: Given, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runners("onnxruntime")
    (tmp_path / "empty.cpp").touch()
    for name, needs in (("hosts", []), ("preload", ["-Wl,--no-as-needed", f"-L{tmp_path}", "-lhosts"])):
        made = ["c++", "-shared", "-fPIC", str(tmp_path / "empty.cpp"), "-o", str(tmp_path / f"lib{name}.so"), *needs]
        subprocess.run(made, check=True, timeout=60)
    # as for an Arm phone: with the C library's own loader, which does not find what the host's finds for its programs
    monkeypatch.setitem(build.TARGETS, "x86_64", Target("x86_64", "c++", "ld-linux-x86-64.so.2"))
    runner = build.build("onnxruntime", cache=tmp_path / "cache")
    termux = ("env", f"LD_LIBRARY_PATH={tmp_path}", f"LD_PRELOAD={tmp_path}/libpreload.so")
    bundle, device = given.bundles["small"], Device(Local(str(tmp_path / "device")))

    def tokens(command: tuple[str, ...]) -> list[int]:
        started = replace(runner, command=(*termux, *command))
        content = execution.execute(device, started, bundle, Job("whole", 1, runs=1), [[5, 6]], "one")
        return journal.parse(content).timed[0].tokens

    translate = decode.one_by_one(open_bundle(bundle.path, 1), Search(**description.read(bundle.path).search))
    assert tokens(runner.command) == translate([5, 6])
    assert runner.command[:3] == ("env", "-u", "LD_PRELOAD")
    assert "libhosts.so: cannot open shared object file" in error_of(tokens, runner.command[3:])
