"""What devices print, as it is and mutilated: unknown is None, and nothing is an exception."""

import math
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tprune.android_runner import probe_text
from tprune.android_runner.probe_text import Battery, Cluster, Thermal

BATTERY = """\
Current Battery Service state:
  AC powered: false
  USB powered: true
  Wireless powered: false
  Dock powered: false
  Max charging current: 500000
  status: 2
  health: 2
  present: true
  level: 43
  scale: 50
  voltage: 4123
  temperature: 281
  technology: Li-ion
"""
THERMAL = """\
IsStatusOverride: false
ThermalEventListeners:
	callbacks: 2
Thermal Status: 1
Cached temperatures:
	Temperature{mValue=71.5, mType=3, mName=skin, mStatus=0}
HAL Ready: true
HAL connection:
	ThermalHAL AIDL 1  connected: yes
Current temperatures from HAL:
	Temperature{mValue=33.9, mType=3, mName=VIRTUAL-SKIN, mStatus=0}
	Temperature{mValue=34.25, mType=3, mName=skin, mStatus=0}
	Temperature{mValue=-99.9, mType=0, mName=cpu7, mStatus=0}
	Temperature{mValue=47.0, mType=0, mName=cpu0, mStatus=0}
Current cooling devices from HAL:
	CoolingDevice{mValue=0, mType=2, mName=thermal-cpufreq-0}
	Temperature{mValue=99.0, mType=3, mName=no temperature of this moment, mStatus=0}
"""
POLICIES = """\
cpufreq/policy4/related_cpus:4 5 6 7
cpufreq/policy0/related_cpus:0 1 2 3
cpufreq/policy0/cpuinfo_max_freq:1803000
cpufreq/policy4/cpuinfo_max_freq:2850000
cpufreq/policy0/cpuinfo_min_freq:300000
cpufreq/policy4/scaling_governor:schedutil
"""
MEMORY = "MemTotal:        5832704 kB\nMemFree:          150000 kB\nMemAvailable:    2400000 kB\n"
CPUINFO = "processor\t: 0\nBogoMIPS\t: 38.40\nHardware\t: Qualcomm Technologies, Inc SM7325\n"
GETPROP = "[ro.product.model]: [Pixel 6]\n[ro.build.version.release]: [14]\n[empty]: []\n[brackets]: [a]b]\n"
SUPPLIES = """\
battery/type:Battery
battery/status:Discharging
battery/current_now:-412000
battery/voltage_now:3900000
usb/type:USB
usb/online:0
"""


def supplies(text: str) -> dict[str, str]:
    pairs = (line.partition(":") for line in text.splitlines())
    return {file: content for file, _, content in pairs}


READERS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "battery": (BATTERY, probe_text.battery),
    "thermal": (THERMAL, probe_text.thermal),
    "clusters": (POLICIES, probe_text.clusters),
    "memory": (MEMORY, lambda text: probe_text.memory_bytes(text, "MemTotal")),
    "processor": (CPUINFO, probe_text.processor),
    "properties": (GETPROP, probe_text.properties),
    "power": (SUPPLIES, lambda text: probe_text.battery_watts(supplies(text))),
}


def test_battery() -> None:
    assert probe_text.battery(BATTERY) == Battery(86, 28.1, 4123, discharging=False)
    unplugged = BATTERY.replace("USB powered: true", "USB powered: false").replace("status: 2", "status: 3")
    assert probe_text.battery(unplugged).discharging is True
    assert probe_text.battery(BATTERY.replace("status: 2", "status: 3")).discharging is False  # on the cable
    assert probe_text.battery(unplugged.replace("status: 3", "status: 1")).discharging is None
    flat = "  present: true\n  level: 0\n  scale: 100\n  voltage: 0\n"
    assert probe_text.battery(flat) == Battery(level_percent=0)
    # a board with Android, and a phone that is fed by a dummy
    for changed in (BATTERY.replace("present: true", "present: false"), BATTERY.replace("  present: true\n", "")):
        nothing = changed.replace("temperature: 281", "temperature: 0").replace("level: 43", "level: 0")
        assert probe_text.battery(nothing) == Battery()
    assert probe_text.battery("Can't find service: battery\n") == Battery()


@pytest.mark.parametrize(
    ("old", "new", "watts"),
    [
        ("", "", 0.412 * 3.9),
        ("-412000", "412000\n", 0.412 * 3.9),  # makers do not agree on the sign
        ("usb/type:USB\nusb/online:0\n", "", 0.412 * 3.9),  # no plug is known
        ("Discharging", "Charging", None),
        ("Discharging", "Not charging", None),
        ("online:0", "online:1", None),  # a plug that gives too little is a plug
        ("online:0", "online:", None),
        ("-412000", "-412", None),  # milliamperes
        ("3900000", "3900", None),  # millivolts
        ("-412000", "0", None),
        ("-412000", "many", None),
        ("voltage_now:3900000\n", "voltage_avg:3900000\n", None),
        ("usb/type:USB", "bms/type:Battery", None),  # which of the two feeds it?
        (SUPPLIES, "", None),
    ],
)
def test_power_out_of_the_battery(old: str, new: str, watts: float | None) -> None:
    found = probe_text.battery_watts(supplies(SUPPLIES.replace(old, new)))
    assert found == (None if watts is None else pytest.approx(watts))


def test_thermal() -> None:
    assert probe_text.thermal(THERMAL) == Thermal(1, {"VIRTUAL-SKIN": 33.9, "skin": 34.25, "cpu0": 47.0}, 34.25)
    cached = THERMAL.partition("Current temperatures")[0]
    assert probe_text.thermal(cached) == Thermal(status=1)  # 71.5 degrees are of another moment
    assert probe_text.thermal("") == Thermal()


def test_clusters() -> None:
    little = Cluster((0, 1, 2, 3), 1_803_000, 300_000, None)
    assert probe_text.clusters(POLICIES) == (little, Cluster((4, 5, 6, 7), 2_850_000, None, "schedutil"))
    twice = POLICIES.replace("policy4/related_cpus:4 5", "policy4/related_cpus:3 5")
    assert probe_text.clusters(twice) == ()  # a processor in two clusters: nothing there can be trusted
    assert probe_text.clusters("cpufreq/policy0/related_cpus:0 x\n") == ()


def test_memory_names_and_properties() -> None:
    assert probe_text.memory_bytes(MEMORY, "MemTotal") == 5832704 * 1024
    assert probe_text.memory_bytes(MEMORY, "SwapTotal") is None
    assert probe_text.processor(CPUINFO) == "Qualcomm Technologies, Inc SM7325"
    assert probe_text.processor("model name\t: \nModel : Pi 4\n") == "Pi 4"
    assert probe_text.properties(GETPROP) == {
        "ro.product.model": "Pixel 6",
        "ro.build.version.release": "14",
        "empty": "",
        "brackets": "a]b",
    }


@st.composite
def mutated(draw: st.DrawFn, text: str) -> str:
    """A text with pieces cut out, doubled, moved and replaced."""
    for _ in range(draw(st.integers(1, 4))):
        begin, end = sorted((draw(st.integers(0, len(text))), draw(st.integers(0, len(text)))))
        piece = draw(
            st.sampled_from(["", text[begin:end] * 2, "-99.9", "9" * 400, "nan", "-", "1.2.3", "\0", "\r\n", "٣"])
            | st.text(max_size=5)
        )
        text = text[:begin] + piece + text[end:]
    return text


def _numbers(value: object) -> list[float]:
    if isinstance(value, Battery | Thermal | Cluster):
        return _numbers(asdict(value))
    if isinstance(value, bool):
        return []
    if isinstance(value, int | float):
        return [value]
    if isinstance(value, dict):
        return [number for one in value.values() for number in _numbers(one)]
    return [number for one in value for number in _numbers(one)] if isinstance(value, tuple | list) else []


@pytest.mark.parametrize("kind", READERS)
@given(data=st.data())
def test_whatever_a_device_prints_is_read_without_an_exception(kind: str, data: st.DataObject) -> None:
    text, read = READERS[kind]
    found = read(data.draw(mutated(text)))
    assert all(math.isfinite(number) for number in _numbers(found))


@given(st.text() | st.binary().map(lambda data: data.decode(errors="replace")))
@example("Current temperatures from HAL:\n\tTemperature{mValue=., mType=-, mName=")
def test_noise_is_nothing(text: str) -> None:
    for _, read in READERS.values():
        read(text)


@pytest.mark.parametrize("kind", ["battery", "thermal"])
def test_every_line_that_is_missing_is_none_and_never_0(kind: str) -> None:
    text, read = READERS[kind]
    whole = asdict(read(text))
    lines = text.splitlines(keepends=True)
    for number in range(len(lines)):
        found = asdict(read("".join(lines[:number] + lines[number + 1 :])))
        for field, value in found.items():
            assert value == whole[field] or value is None or isinstance(value, dict | float | bool), (field, number)
            assert value is False or value != 0
