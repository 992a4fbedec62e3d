"""What a device has done is not done again because another one has broken, or for what it does not depend on."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.android_runner.contestants import BENCH, QUICK, Given, open_session
from tests.android_runner.phones import starts_of
from tprune import delivery
from tprune.android_runner import links, transport
from tprune.android_runner.build import Runner
from tprune.android_runner.device import Gate
from tprune.android_runner.links import Local, Said
from tprune.android_runner.passes import Passes
from tprune.android_runner.refusals import DeviceLostError
from tprune.benchmarks import record
from tprune.config import Config
from tprune.errors import MachineError


class Broken(Local):
    """A device that dies when a pass is started."""

    def shell(self, line: str, seconds: float) -> Said:
        if "setsid" in line:
            raise DeviceLostError("the device is not there", where=self.name)
        return super().shell(line, seconds)


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Device and folder of everything that is started."""
    found: list[str] = []
    real = transport.Device.start

    def counted(device: transport.Device, folder: str, command: list[str]) -> None:
        real(device, folder, command)
        found.append(f"{device.name} {folder}")

    monkeypatch.setattr(transport.Device, "start", counted)
    return found


def test_a_dead_device_that_is_dropped_takes_nothing_with_it(
    runners: Callable[[str], Runner], given: Given, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, started: list[str]
) -> None:
    runners("onnxruntime")
    ways = {"adb:a": Local(str(tmp_path / "a"), "adb:a"), "adb:b": Broken(str(tmp_path / "b"), "adb:b")}
    monkeypatch.setattr(links, "open_link", ways.__getitem__)
    out, passes = tmp_path / "results", tmp_path / "results.passes"

    def bench(*devices: str, **changes: Any) -> list[tuple[object, ...]]:
        settings = Config(name="x", device=QUICK.model_copy(update=changes), bench=BENCH)
        made = delivery.bench_devices(out, "x", given.entries, given.text, settings, devices).make(True)
        return [(row.model_dump()["device"], row.model, row.latency_ms) for row in record.read_all(made.path)]

    with pytest.raises(MachineError, match="adb:b: the device loses every run"):
        bench("adb:a", "adb:b")
    assert len(started) == 2 + 2 * 3  # both models' test passes and cold starts
    kept = {path: path.read_bytes() for path in passes.glob("adb=a/*/*.jsonl")}
    assert len(kept) == len(started)
    started.clear()
    rows = bench("adb:a", patience_seconds=19.0, cool_celsius=30.0, cold_starts=4)
    assert len(started) == 2  # the fourth cold start
    assert [row[:2] for row in rows] == [("adb:a", "dense"), ("adb:a", "small")]
    assert not (passes / "adb=a").exists()  # finished
    (passes / "adb=b" / "x").mkdir(parents=True)
    started.clear()
    bench("adb:a", runs=15)
    assert len(started) == 8  # nothing old is read for what it is not
    assert [path.name for path in passes.iterdir()] == ["adb=b"]  # it waits until that one is back


def test_what_a_pass_depends_on(given: Given, tmp_path: Path) -> None:
    parents = {**given.bundles, "corpus": given.text}
    key = Passes.of(tmp_path, parents, QUICK).key
    same = {"cool_celsius": 1.0, "cool_seconds": 1.0, "patience_seconds": 1.0, "cold_starts": 9, "sustained_minutes": 9}
    other = {"threads": 2, "pin": "0", "sentences": 6, "warmup": 3, "runs": 11, "seconds": 0.5}
    assert same.keys() | other.keys() == type(QUICK).model_fields.keys()
    assert {Passes.of(tmp_path, parents, QUICK.model_copy(update=same)).key} == {key}
    keys = [Passes.of(tmp_path, parents, QUICK.model_copy(update={name: value})).key for name, value in other.items()]
    fewer = Passes.of(tmp_path, {"dense": parents["dense"], "corpus": parents["corpus"]}, QUICK).key
    assert len({key, fewer, *keys}) == 2 + len(other)


def test_folders_of_devices_that_look_alike(given: Given, tmp_path: Path) -> None:
    passes = Passes.of(tmp_path / "out", {"corpus": given.text}, QUICK)
    folders = {passes.folder(name) for name in ("adb:a-b", "adb:a:b", "adb:a.b", "local", "ssh:a-b")}
    assert len(folders) == 5
    passes.sweep(["adb:a:b"])
    assert sum(folder.exists() for folder in folders) == 4


def test_a_kept_gate_is_judged_by_the_limit_of_today(
    runners: Callable[[str], Runner], given: Given, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runners("onnxruntime")
    opened = open_session(tmp_path, settings=QUICK.model_copy(update={"cool_celsius": 40.0}))
    monkeypatch.setattr(opened, "_cool_down", lambda: Gate(38.0, 0.0, True))
    started = starts_of(opened.device, monkeypatch)
    assert opened.run(given.bundles["small"], "one", [[5, 6]], runs=1).gate.passed
    opened.settings = opened.settings.model_copy(update={"cool_celsius": 35.0})
    again = opened.run(given.bundles["small"], "one", [[5, 6]], runs=1).gate
    assert (again.passed, again.reason, len(started)) == (False, "the device stayed at 38.0 °C", 1)
    assert replace(again, temperature_c=None).judged(35.0).passed is None
