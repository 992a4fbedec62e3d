"""A run that nobody waits for any more belongs to the next command, however long the device was away."""

import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.android_runner.contestants import QUICK, Given, open_session
from tests.android_runner.phones import starts_of, until
from tprune.android_runner.build import Runner
from tprune.android_runner.device import Gate
from tprune.android_runner.links import Local, Said
from tprune.android_runner.refusals import DeviceLostError
from tprune.android_runner.session import Pass, Session
from tprune.android_runner.transport import Device, StoppedError

LONG = 10**7  # sentences: it ends when it is ended
IMPATIENT = QUICK.model_copy(update={"patience_seconds": 0.2})


class Vanishing(Local):
    """A device that is lost as soon as a program has been started on it."""

    away = threading.Event()

    def shell(self, line: str, seconds: float) -> Said:
        if self.away.is_set():
            raise DeviceLostError("the device is not there", where=self.name)
        said = super().shell(line, seconds)
        if "setsid" in line:
            self.away.set()
        return said


@pytest.fixture
def link(tmp_path: Path) -> Vanishing:
    Vanishing.away.clear()
    return Vanishing(str(tmp_path / "device"), "adb:one")


def session(folder: Path, link: Local, temperature: float, monkeypatch: pytest.MonkeyPatch) -> Session:
    made = open_session(folder, Device(link), IMPATIENT)
    monkeypatch.setattr(made, "_cool_down", lambda: Gate(temperature, 0.0, True))
    return made


def lost(given: Given, folder: Path, link: Vanishing, monkeypatch: pytest.MonkeyPatch, runs: int = 1) -> Path:
    """A command that loses its device in mid-run: the run's folder there, which goes on."""
    with pytest.raises(DeviceLostError):
        run(session(folder, link, 30.0, monkeypatch), given, runs)
    link.away.clear()
    found = list((folder / "device" / "runs").iterdir())
    assert len(found) == 1 and not (folder / "done" / "one.jsonl").exists()
    return found[0]


def run(opened: Session, given: Given, runs: int = 1) -> Pass:
    return opened.run(given.bundles["small"], "one", [[5, 6]], runs=runs, seconds=1.0)


@pytest.mark.parametrize("ended", [False, True])
def test_the_next_command_adopts_what_was_started(
    runners: Callable[[str], Runner],
    given: Given,
    tmp_path: Path,
    link: Vanishing,
    monkeypatch: pytest.MonkeyPatch,
    ended: bool,
) -> None:
    runners("onnxruntime")
    folder = lost(given, tmp_path, link, monkeypatch)
    if ended:
        until((folder / "status").exists, "the run's end")
    opened = session(tmp_path, Local(link.folder, link.name), 40.0, monkeypatch)
    started = starts_of(opened.device, monkeypatch)
    found = run(opened, given)
    assert started == [] and found.journal.complete
    assert found.gate.temperature_c == 30.0  # as it was when the run was started
    assert (tmp_path / "done" / "one.jsonl").read_bytes() == (folder / "journal.jsonl").read_bytes()
    assert sorted(path.name for path in (tmp_path / "done").iterdir()) == ["one.gate.json", "one.jsonl"]


@pytest.mark.parametrize("fate", ["killed", "lost with the device's memory", "stopped by the user"])
def test_what_came_to_nothing_is_begun_again(
    runners: Callable[[str], Runner],
    given: Given,
    tmp_path: Path,
    link: Vanishing,
    monkeypatch: pytest.MonkeyPatch,
    fate: str,
) -> None:
    runners("onnxruntime")
    folder = lost(given, tmp_path, link, monkeypatch, LONG)
    back = Local(link.folder, link.name)
    if fate == "killed":
        Device(back).kill(f"runs/{folder.name}")
    elif fate == "stopped by the user":
        stop = threading.Event()
        waiting = open_session(tmp_path, Device(back, stop=stop), IMPATIENT)
        threading.Timer(0.3, stop.set).start()
        with pytest.raises(StoppedError):
            run(waiting, given, LONG)
        assert Device(back).poll(f"runs/{folder.name}") == "gone"
    else:
        Device(back).kill(f"runs/{folder.name}")
        shutil.rmtree(folder)
    opened = session(tmp_path, back, 31.0, monkeypatch)
    started = starts_of(opened.device, monkeypatch)
    found = run(opened, given)
    assert len(started) == 1 and found.journal.complete and found.gate.temperature_c == 31.0


COMMAND = """\
import sys
from pathlib import Path
from tests.android_runner.contestants import open_session
from tprune import artifact
opened = open_session(Path(sys.argv[1]))
opened.run(artifact.read(Path(sys.argv[2]), "bundle"), "one", [[5, 6]], runs=1, seconds=1.0)
"""


def test_a_killed_command_is_followed_by_one_that_adopts_its_run(
    runners: Callable[[str], Runner], given: Given, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runners("onnxruntime")
    with subprocess.Popen([sys.executable, "-c", COMMAND, str(tmp_path), str(given.bundles["small"].path)]) as command:
        limit = time.monotonic() + 60
        while not list((tmp_path / "device").glob("runs/one-*/pid")):
            assert time.monotonic() < limit and command.poll() is None
            time.sleep(0.05)
        command.kill()
    opened = open_session(tmp_path)
    started = starts_of(opened.device, monkeypatch)
    assert run(opened, given).journal.complete
    assert started == []
