"""Looking at devices, with what real ones print."""

import platform
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from tests.android_runner.test_probe_text import BATTERY, CPUINFO, GETPROP, MEMORY, POLICIES, THERMAL
from tests.artifacts import error_of
from tprune.android_runner import device
from tprune.android_runner.device import Gate
from tprune.android_runner.links import Local
from tprune.android_runner.shell import Answer
from tprune.android_runner.transport import Device

PHONE: Mapping[str, str] = {
    "getprop": GETPROP + "[ro.soc.model]: [Tensor]\n",
    "uname -m": "aarch64\n",
    "cat /proc/meminfo": MEMORY,
    "cat /proc/cpuinfo": CPUINFO,
    "dumpsys battery": BATTERY,
    "dumpsys thermalservice": THERMAL,
    "cat /proc/sys/kernel/random/boot_id": "another kernel\n",
}


class Scripted(Device):
    """A device that says what it is told to; a program that it does not have is not found."""

    def __init__(self, said: Mapping[str, str | list[str]]) -> None:
        super().__init__(Local())
        self.paused: list[float] = []
        self.said = {command: [text] if isinstance(text, str) else list(text) for command, text in said.items()}

    def pause(self, seconds: float) -> None:
        self.paused.append(seconds)

    def run(self, command: Sequence[str], seconds: float = 0) -> Answer:
        name = " ".join(command)
        if command[0] == "sh" and "policies" in self.said:
            name = "policies"
        if name not in self.said:
            return Answer(127, f"sh: {command[0]}: inaccessible or not found\n".encode())
        left = self.said[name]
        return Answer(0, (left.pop(0) if len(left) > 1 else left[0]).encode())


def test_a_phone() -> None:
    policies = POLICIES.replace("cpufreq/", "")  # grep names the files as it was given them
    found = device.probe(Scripted({**PHONE, "policies": policies}))
    assert (found.kind, found.abi, found.soc, found.model, found.android) == (
        "phone", "aarch64", "Tensor", "Pixel 6", "14",
    )  # fmt: skip
    assert (found.memory_bytes, found.available_bytes) == (5832704 * 1024, 2400000 * 1024)
    assert found.temperature_c == 34.25
    assert device.pinning(found, "big") == (4, 5, 6, 7)
    assert device.pinning(found, "little") == (0, 1, 2, 3)
    assert device.pinning(found, "all") == ()
    assert device.pinning(found, "7,4,4") == (4, 7)
    assert "no such processor · got 9 · wanted 0 to 7" in error_of(device.pinning, found, "4,9")
    for wanted in ("", "middle", "4-7", "4;5", "-1", "٣"):
        assert "no such pinning" in error_of(device.pinning, found, wanted)
    environment = found.environment()
    assert (environment.kind, environment.cpu) == ("phone", "Tensor")
    assert environment.model_dump()["clusters"][1]["max_khz"] == 2_850_000


def test_a_device_that_tells_nothing() -> None:
    found = device.probe(Scripted({}))
    assert (found.machine, found.abi, found.soc, found.memory_bytes, found.clusters) == (None, None, None, None, ())
    assert found.temperature_c is None
    assert found.environment().cpu == "unknown"
    assert "the device does not tell its clusters" in error_of(device.pinning, found, "big")
    assert device.pinning(found, "3") == (3,)


def test_kinds_of_devices() -> None:
    def kind(**said: str) -> str:
        names = {"machine": "uname -m", "boot": "cat /proc/sys/kernel/random/boot_id", "properties": "getprop",
                 "board": "cat /proc/device-tree/model"}  # fmt: skip
        return device.probe(Scripted({names[key]: text for key, text in said.items()})).kind

    assert kind(machine="aarch64\n", board="Raspberry Pi 5 Model B Rev 1.0\0") == "sbc"
    assert kind(machine="armv7l\n") == "sbc"
    assert kind(machine="aarch64\n") == "host-arm64"  # a server, or a virtual machine
    assert kind(machine="aarch64\n", board="linux,dummy-virt\0") == "host-arm64"
    assert kind(machine="aarch64\n", properties=GETPROP) == "phone"
    assert kind(machine="aarch64\n", properties=GETPROP + "[ro.boot.qemu]: [1]\n") == "emulated-arm64"
    assert kind(machine="x86_64\n", properties=GETPROP) == "host-x86"  # an emulator on a desktop is no phone
    here = Path(device.BOOT_ID).read_text()
    other = "aarch64" if platform.machine() != "aarch64" else "riscv64"
    assert kind(machine=other, boot=here) == "emulated-arm64"  # this very kernel, and yet another architecture


def test_this_machine(tmp_path: Path) -> None:
    found = device.probe(Device(Local(str(tmp_path))))
    assert (found.name, found.machine) == ("local", platform.machine())
    assert found.memory_bytes is not None and found.memory_bytes > 1e8
    assert found.android is None


def test_the_gate_waits_for_a_bounded_time() -> None:
    warm, cool = THERMAL, THERMAL.replace("34.25", "31.5").replace("33.9", "30")
    slept: list[float] = []

    def gate(said: Mapping[str, str | list[str]], limit: float = 33.0, seconds: float = 60.0) -> Gate:
        scripted = Scripted(said)
        found = device.cool_down(scripted, limit, seconds)
        slept[:] = scripted.paused
        return found

    passed = gate({"dumpsys thermalservice": [warm, warm, cool]})
    assert passed == Gate(31.5, 10.0, True)
    assert (passed.reason, slept) == (None, [5.0, 5.0])
    stuck = gate({"dumpsys thermalservice": warm}, seconds=12)
    assert (stuck.passed, stuck.waited_seconds) == (False, 15.0)
    assert stuck.reason == "the device stayed at 34.2 °C"
    assert gate({"dumpsys battery": BATTERY}) == Gate(28.1, 0.0, True)  # no thermal service: the battery's
    absent = BATTERY.replace("present: true", "present: false").replace("temperature: 281", "temperature: 0")
    assert gate({"dumpsys battery": absent}).passed is None  # the zeros of no battery are no cool one
    unknown = gate({})
    assert (unknown.temperature_c, unknown.passed, unknown.reason) == (None, None, "no thermometer could be read")


@pytest.mark.parametrize("status", [1, 127])
def test_what_a_failed_program_prints_is_not_read(status: int) -> None:
    class Failing(Scripted):
        def run(self, command: Sequence[str], seconds: float = 0) -> Answer:
            return Answer(status, super().run(command, seconds).output)

    assert device.probe(Failing(PHONE)).temperature_c is None
