"""What `tprune devices` prints: a line for each device, ready or not."""

import pytest

from tests.command import tprune
from tprune.android_runner import shelf
from tprune.android_runner.device import Facts
from tprune.android_runner.probe_text import Battery, Cluster, Thermal
from tprune.android_runner.transport import Device
from tprune.errors import MachineError

PHONE = Facts(
    name="adb:R58M",
    kind="phone",
    machine="aarch64",
    abi="aarch64",
    soc="Tensor",
    model="Pixel 6",
    android="14",
    memory_bytes=8 * 2**30,
    available_bytes=None,
    clusters=(Cluster((0, 1, 2, 3), 1_803_000, None, None), Cluster((4, 5), 2_850_000, None, None)),
    battery=Battery(level_percent=0, temperature_c=28.1),
    thermal=Thermal(),
)


def test_a_line_for_each_device() -> None:
    assert shelf.describe(PHONE) == (
        "adb:R58M: phone, Pixel 6, Tensor, aarch64, Android 14, 2 x 2.85 GHz, 4 x 1.80 GHz, 8.0 GiB, 28.1 °C, "
        "battery 0 %"
    )


def test_devices_that_are_not_ready(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    states = {"one": "unauthorized", "two": "offline", "three": "recovery"}
    monkeypatch.setattr(shelf, "adb_devices", lambda: states)
    assert tprune(monkeypatch, "devices", "--device", "ssh:a b") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("local: ")
    assert [line.partition(" · ")[0] for line in lines[1:]] == [
        "adb:one: the device has not authorized this computer",
        "adb:two: the device is offline",
        "adb:three: recovery",
        "no name of a host",
    ]


def test_without_adb(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> dict[str, str]:
        raise MachineError("a tool is missing", where="adb", fix="install adb")

    monkeypatch.setattr(shelf, "adb_devices", missing)
    assert list(shelf.lines([]))[1] == "adb: adb: a tool is missing · install adb"


@pytest.mark.parametrize("state", ["device", "offline"])
def test_a_device_that_vanishes_while_it_is_looked_at(monkeypatch: pytest.MonkeyPatch, state: str) -> None:
    def vanish(one: Device) -> Facts:
        raise MachineError("the device is not there", where=one.name)

    monkeypatch.setattr(shelf, "probe", vanish)
    monkeypatch.setattr(shelf, "adb_devices", lambda: {"gone": state})
    assert list(shelf.lines([]))[1].startswith("adb:gone: the device is ")
