"""What the tools of a device print, read without ever failing: what cannot be read is None.

Vendors change these texts at will, and a shell may not be allowed to look. So nothing here raises an error, and nothing
unknown becomes 0.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

ABSENT_C = -99.0  # a sensor that reads less than this is not there: the thermal service says -99.9
HOTTEST_C = 200.0


@dataclass(frozen=True)
class Cluster:
    """Processors that share a clock.

    Attributes:
        cpus: Their numbers.
        max_khz: Highest frequency.
        min_khz: Lowest frequency.
        governor: What chooses between them.
    """

    cpus: tuple[int, ...]
    max_khz: int | None
    min_khz: int | None
    governor: str | None


@dataclass(frozen=True)
class Battery:
    """What `dumpsys battery` says.

    Attributes:
        level_percent: How full it is.
        temperature_c: In degrees Celsius.
        voltage_mv: In millivolts.
        discharging: Whether it feeds the phone, with nothing plugged in that does.
    """

    level_percent: int | None = None
    temperature_c: float | None = None
    voltage_mv: int | None = None
    discharging: bool | None = None


@dataclass(frozen=True)
class Thermal:
    """What `dumpsys thermalservice` says of this moment.

    Attributes:
        status: 0 none, 1 light, 2 moderate, 3 severe, 4 critical …
        temperatures_c: By sensor, in degrees Celsius; None: the service told none of this moment.
        skin_c: The hottest sensor of the case.
    """

    status: int | None = None
    temperatures_c: Mapping[str, float] | None = None
    skin_c: float | None = None


SKIN = 3  # android.hardware.thermal TemperatureType
# Microamperes and microvolts of a device at work. Some makers give milliamperes or millivolts: those are all smaller.
CURRENT_UA, VOLTAGE_UV = (10_000, 20_000_000), (2_000_000, 30_000_000)


def properties(text: str) -> dict[str, str]:
    """Lines of `getprop`: [name]: [value]."""
    return dict(re.findall(r"^\[([^\]\n]+)\]: \[([^\n]*)\]\r?$", text, re.MULTILINE))


def memory_bytes(text: str, field: str) -> int | None:
    """A field of /proc/meminfo, such as MemTotal."""
    found = re.search(rf"^{re.escape(field)}:\s*([0-9]{{1,15}}) kB\s*$", text, re.MULTILINE)
    return 1024 * int(found[1]) if found else None


def processor(text: str) -> str | None:
    """The processor's name in /proc/cpuinfo."""
    found = re.search(r"^(?:model name|Model|Hardware)\s*:[ \t]*(\S.*?)\s*$", text, re.MULTILINE)
    return found[1] if found else None


def clusters(text: str) -> tuple[Cluster, ...]:
    """Lines `…/cpufreq/policyN/FILE:CONTENT`, as grep prints them; slowest clusters first."""
    policies: dict[str, dict[str, str]] = {}
    for number, file, content in re.findall(r"cpufreq/policy([0-9]{1,4})/(\w+):([^\n]*)", text):
        policies.setdefault(number, {})[file] = content.strip()
    found = []
    for files in policies.values():
        words = files.get("related_cpus", "").split()
        cpus = tuple(sorted({int(word) for word in words if re.fullmatch(r"[0-9]{1,4}", word)}))
        if cpus and len(cpus) == len(words):
            max_khz, min_khz = (_whole(files.get(f"cpuinfo_{end}_freq")) for end in ("max", "min"))
            found.append(Cluster(cpus, max_khz, min_khz, files.get("scaling_governor") or None))
    taken = [cpu for cluster in found for cpu in cluster.cpus]
    if len(taken) != len(set(taken)):  # half of it is wrong, and nobody knows which half
        return ()
    return tuple(sorted(found, key=lambda one: (one.max_khz or 0, one.cpus)))


def battery(text: str) -> Battery:
    """The output of `dumpsys battery`; where no battery is present, its zeros are none of one."""

    def field(name: str) -> str | None:
        found = re.search(rf"^\s*{name}: ([^\n]*?)\s*$", text, re.MULTILINE)
        return found[1] if found else None

    if field("present") != "true":
        return Battery()
    level, scale, tenths = _whole(field("level")), _whole(field("scale")), _whole(field("temperature"))
    status = _whole(field("status"))  # 2 charging, 3 discharging, 4 not charging, 5 full
    plugs = [field(f"{plug} powered") for plug in ("AC", "USB", "Wireless", "Dock")]
    temperature = celsius(None if tenths is None else tenths / 10)
    known = status in (2, 3, 4, 5) and "false" in plugs
    return Battery(
        level_percent=round(100 * level / scale) if level is not None and scale and 0 <= level <= scale else None,
        temperature_c=temperature,
        voltage_mv=_whole(field("voltage")) or None,
        discharging=(status == 3 and "true" not in plugs) if known or "true" in plugs else None,
    )


def thermal(text: str) -> Thermal:
    """The output of `dumpsys thermalservice`; its cached temperatures are stale and are not read."""
    status = re.search(r"^Thermal Status: ([0-9])\s*$", text, re.MULTILINE)
    section = re.search(r"^Current temperatures from HAL:[ \t]*\r?\n((?:[ \t]+[^\n]*(?:\n|\Z))*)", text, re.MULTILINE)
    temperatures, skin = {}, []
    for value, kind, name in re.findall(
        r"Temperature\{mValue=(-?[0-9.]{1,12}), mType=(-?[0-9]{1,4}), mName=([^,\n]*)", section[1] if section else ""
    ):
        degrees = celsius(_real(value))
        if degrees is not None:
            temperatures[name] = degrees
            skin += [degrees] if int(kind) == SKIN else []
    return Thermal(int(status[1]) if status else None, temperatures or None, max(skin, default=None))


def battery_watts(supplies: Mapping[str, str]) -> float | None:
    """The power that the battery gives; None where the device does not tell it, or something else feeds it too.

    Args:
        supplies: Content of the files of /sys/class/power_supply by supply and file, as `battery/status`.
    """
    said = {file: content.strip() for file, content in supplies.items()}
    batteries = [
        file.removesuffix("type") for file, kind in said.items() if file.endswith("/type") and kind == "Battery"
    ]
    plugged = any(online != "0" for file, online in said.items() if file.endswith("/online"))
    if plugged or len(batteries) != 1 or said.get(f"{batteries[0]}status") != "Discharging":
        return None
    current, voltage = (_whole(said.get(f"{batteries[0]}{name}_now")) for name in ("current", "voltage"))
    if current is None or voltage is None:
        return None
    current = abs(current)  # makers do not agree on the sign
    known = CURRENT_UA[0] <= current <= CURRENT_UA[1] and VOLTAGE_UV[0] <= voltage <= VOLTAGE_UV[1]
    return current * voltage / 1e12 if known else None


def celsius(value: float | None) -> float | None:
    """A temperature, if a device can have it: what sensors that are off or absent say is none."""
    return value if value is not None and math.isfinite(value) and ABSENT_C < value < HOTTEST_C else None


def _whole(text: str | None) -> int | None:
    return int(text) if text is not None and re.fullmatch(r"-?[0-9]{1,15}", text) else None


def _real(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
