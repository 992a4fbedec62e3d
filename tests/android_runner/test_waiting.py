"""Waiting for a run: looks are few, since each disturbs what is timed, and a run that hangs is not waited for."""

from collections.abc import Sequence
from itertools import pairwise
from types import SimpleNamespace

import pytest

from tests.artifacts import error_of
from tprune.android_runner import transport
from tprune.android_runner.links import Local
from tprune.android_runner.transport import Device, Look


class Watched(Device):
    """A device with a clock of its own, whose program writes until it ends or hangs."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, ends: float, hangs: float = 1e9) -> None:
        super().__init__(Local())
        self.now, self.ends, self.hangs, self.looks, self.killed = 0.0, ends, hangs, list[float](), list[float]()
        monkeypatch.setattr(transport, "time", SimpleNamespace(monotonic=lambda: self.now))

    def pause(self, seconds: float) -> None:
        assert seconds > 0
        self.now += seconds

    def look(self, folder: str, grows: Sequence[str] = ()) -> Look:
        self.looks.append(self.now)
        size = min(self.now, self.hangs) if grows else 0
        return Look("running" if self.now < self.ends else "ended", str(size))

    def kill(self, folder: str) -> None:
        self.killed.append(self.now)


def test_a_long_run_is_looked_at_less_and_less(monkeypatch: pytest.MonkeyPatch) -> None:
    device = Watched(monkeypatch, ends=600)
    assert device.wait("runs/one", 3600) == "ended"
    pauses = [after - before for before, after in pairwise(device.looks)]
    assert (device.looks[0], pauses[0]) == (0, 0.5) and max(pauses) == pytest.approx(10)
    assert pauses == pytest.approx(sorted(pauses))
    assert sum(look < 11 for look in device.looks) < 16


@pytest.mark.parametrize(("quiet", "ends", "first"), [(10, 13, [10, 12, 14.4]), (0.2, 0.1, [0.2])])
def test_nobody_looks_while_a_run_is_sure_to_be_at_work(
    monkeypatch: pytest.MonkeyPatch, quiet: float, ends: float, first: list[float]
) -> None:
    device = Watched(monkeypatch, ends)
    assert device.wait("runs/one", 3600, quiet) == "ended"
    assert device.looks == pytest.approx(first)


def test_a_sustained_run_is_looked_at_once_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    device = Watched(monkeypatch, ends=1830)
    assert device.wait("runs/one", 9999, 1830) == "ended"
    assert device.looks == [*range(60, 1830, 60), 1830]


def test_a_run_that_writes_nothing_more_is_stuck(monkeypatch: pytest.MonkeyPatch) -> None:
    device = Watched(monkeypatch, ends=1e9, hangs=100)
    error = error_of(device.wait, "runs/one", 30_000, 20, ["runs/one/journal.jsonl"])
    assert error.startswith("local runs/one: the run is stuck · got nothing new for 3")
    assert error.endswith("s · it was ended; the same command begins it again, and keeps those before it")
    assert len(device.killed) == 1 and 400 < device.killed[0] < 420
    slow = Watched(monkeypatch, ends=5000)  # slow, and at work
    assert slow.wait("runs/one", 30_000, 20, ["runs/one/journal.jsonl"]) == "ended"
