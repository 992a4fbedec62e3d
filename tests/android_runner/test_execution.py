"""Runs whose end is not as it should be: the device restarts, or the runner is killed."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.android_runner.phones import small_disk, until
from tests.artifacts import error_of
from tprune import artifact
from tprune.android_runner import execution, journal, package
from tprune.android_runner.build import Runner
from tprune.android_runner.links import Local
from tprune.android_runner.refusals import DeviceLostError
from tprune.android_runner.run_file import Job
from tprune.android_runner.transport import Device, Look, StoppedError
from tprune.export import description
from tprune.export.runtime import open_bundle
from tprune.model import decode
from tprune.model.search import Search

JOB = Job("whole", 1, runs=1)


def test_candidates_go_along(
    runners: Callable[[str], Runner], small_bundles: Callable[..., Path], tmp_path: Path
) -> None:
    bundle = artifact.read(small_bundles("onnxruntime", "fp32", True), "bundle")
    sentences = [np.random.randint(4, 40, 6).tolist() for _ in range(5)]
    job, device = Job("whole", 1, runs=5), Device(Local(str(tmp_path)))
    content = execution.execute(device, runners("onnxruntime"), bundle, job, sentences, "one")
    translate = decode.one_by_one(open_bundle(bundle.path, 1), Search(**description.read(bundle.path).search))
    assert [one.tokens for one in journal.parse(content).timed] == [translate(ids) for ids in sentences]


def test_a_device_that_restarts_with_every_run_is_given_up(
    runners: Callable[[str], Runner],
    small_bundles: Callable[[str, str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    runner, bundle = runners("onnxruntime"), artifact.read(small_bundles("onnxruntime", "fp32"), "bundle")
    device, started = Device(Local(str(tmp_path))), list[str]()

    def restart(folder: str, command: list[str]) -> None:
        started.append(folder)
        raise DeviceLostError("the device is not there")

    monkeypatch.setattr(device, "start", restart)
    error = error_of(execution.execute_steadily, device, runner, bundle, JOB, [[5]], "one", 1.0)
    assert error.startswith("local: the device loses every run · got 5 times gone, and the run with it · look whether")
    assert len({*started}) == len(started) == 5


def asleep(folder: Path) -> Runner:
    """A runner that never ends."""
    folder.mkdir()
    (folder / "ort_runner").write_text("#!/bin/sh\nsleep 987 & wait\n")
    (folder / "ort_runner").chmod(0o755)
    return Runner(folder, ("./ort_runner",), "onnxruntime", "x86_64")


def test_a_device_is_found_ready_directly_before_each_start(
    small_bundles: Callable[[str, str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = artifact.read(small_bundles("onnxruntime", "fp32"), "bundle")
    device, happened = Device(Local(str(tmp_path / "device"))), list[str]()
    push = device.push

    def pushed(files: Any) -> list[str]:
        happened.append("push")
        return push(files)

    def lost(folder: str, command: list[str]) -> None:
        happened.append("start")
        raise DeviceLostError("the device is not there")

    monkeypatch.setattr(device, "push", pushed)
    monkeypatch.setattr(device, "start", lost)
    given = device, asleep(tmp_path / "runner"), bundle, JOB, [[5]], "one", 1.0
    error_of(execution.execute_steadily, *given, lambda: happened.append("ready"))
    assert happened == ["push", "push", "ready", "start"] * 5


def test_a_device_that_is_lost_at_every_look_is_given_up(
    small_bundles: Callable[[str, str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = artifact.read(small_bundles("onnxruntime", "fp32"), "bundle")
    device, looks = Device(Local(str(tmp_path / "device"))), list[str]()

    def lost(folder: str, grows: Sequence[str] = ()) -> Look:
        looks.append(folder)
        raise DeviceLostError("the device's answer broke off")

    monkeypatch.setattr(device, "look", lost)
    error = error_of(
        execution.execute_steadily, device, asleep(tmp_path / "runner"), bundle, JOB, [[5]], "one", 1.0
    )  # fmt: skip
    assert error.startswith(
        "local: the device is lost again and again while a run is waited for · "
        "got 20 losses, the last one: the device's answer broke off · look at its cable or network"
    )
    assert len(looks) == 21
    assert Device(Local(str(tmp_path / "device"))).poll(looks[0]) == "gone"  # it was ended


def test_a_run_that_nobody_waits_for_is_ended(small_bundles: Callable[[str, str], Path], tmp_path: Path) -> None:
    bundle, stop = artifact.read(small_bundles("onnxruntime", "fp32"), "bundle"), threading.Event()
    device = Device(Local(str(tmp_path / "device")), stop=stop)
    given = device, asleep(tmp_path / "runner"), bundle, JOB, [[5]], "one", 1.0
    with ThreadPoolExecutor(1) as aside:
        waiting = aside.submit(execution.execute_steadily, *given)
        try:
            until(lambda: bool(list(tmp_path.glob("device/runs/one-*/pid"))), "the run", 60)
            [found] = tmp_path.glob("device/runs/one-*/pid")
            folder = f"runs/{found.parent.name}"
            assert device.poll(folder) == "running"
        finally:
            stop.set()  # else the thread would wait for it for ever
        with pytest.raises(StoppedError):
            waiting.result(30)
    assert device.poll(folder) == "gone"


@pytest.mark.parametrize(
    ("program", "said"),
    [
        ("kill -s KILL $$", "the runner was killed · got signal 9, after 0 sentences: Killed · free memory"),
        ("exit 137", "the runner was killed · got signal 9, after 0 sentences · free memory"),
        ("echo no such library; exit 127", "the runner failed · got no such library · correct what it says"),
    ],
)
def test_what_ended_a_runner_is_told(
    small_bundles: Callable[[str, str], Path], tmp_path: Path, program: str, said: str
) -> None:
    made = tmp_path / "runner"
    made.mkdir()
    (made / "ort_runner").write_text(f"#!/bin/sh\n{program}\n")
    (made / "ort_runner").chmod(0o755)
    runner = Runner(made, ("./ort_runner",), "onnxruntime", "x86_64")
    bundle: Any = artifact.read(small_bundles("onnxruntime", "fp32"), "bundle")
    device = Device(Local(str(tmp_path / "device")))
    error = error_of(execution.execute, device, runner, bundle, JOB, [[5]], "one")
    assert error.startswith(f"local {package.RUNS}/one: {said}")


@pytest.mark.parametrize(
    "program", ["cat /dev/zero > journal.jsonl", "cat /dev/zero > filler 2> /dev/null; kill -9 $$"]
)
def test_a_disk_that_fills_in_mid_run_is_told(
    small_bundles: Callable[[str, str], Path], tmp_path: Path, program: str
) -> None:
    made = tmp_path / "runner"
    made.mkdir()
    (made / "ort_runner").write_text(f"#!/bin/sh\n{program}\n")
    (made / "ort_runner").chmod(0o755)
    runner = Runner(made, ("./ort_runner",), "onnxruntime", "x86_64")
    bundle = artifact.read(small_bundles("onnxruntime", "fp32"), "bundle")
    with small_disk(tmp_path / "device", "4m"):
        device = Device(Local(str(tmp_path / "device")))
        assert error_of(execution.execute, device, runner, bundle, JOB, [[5]], "one") == (
            f"local {package.RUNS}/one: the device's disk is full · got 0.0 MB free; the run ended after 0 sentences · "
            "free some space there"
        )
