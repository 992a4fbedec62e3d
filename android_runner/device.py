"""What a device is, how warm it is, and which of its processors a run stays on."""

import platform
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from tprune.android_runner import probe_text
from tprune.android_runner.probe_text import Battery, Cluster, Thermal
from tprune.android_runner.transport import Transport
from tprune.benchmarks import record
from tprune.benchmarks.record import Environment, Kind
from tprune.errors import InputError, MachineError

BOOT_ID = "/proc/sys/kernel/random/boot_id"
ABIS = {"aarch64": "aarch64", "arm64": "aarch64", "x86_64": "x86_64", "amd64": "x86_64"}
POLICIES = (
    "cd /sys/devices/system/cpu/cpufreq && grep . /dev/null "
    "policy*/related_cpus policy*/cpuinfo_max_freq policy*/cpuinfo_min_freq policy*/scaling_governor; true"
)
COOL_SECONDS = 5.0  # between two looks at a thermometer


@dataclass(frozen=True)
class Facts:
    """A device; what it does not tell is None.

    Attributes:
        name: How the user calls it.
        kind: phone, sbc, host-x86, host-arm64 or emulated-arm64.
        machine: Architecture, as `uname -m` says it.
        abi: Of the runners for it; None: there are none.
        soc: The chip.
        model: What the maker calls the whole.
        android: Version of Android.
        memory_bytes: All of it.
        available_bytes: Of it, not in use.
        clusters: The slowest first; empty: unknown.
        battery: Its state.
        thermal: The thermal service's state.
    """

    name: str
    kind: Kind
    machine: str | None
    abi: str | None
    soc: str | None
    model: str | None
    android: str | None
    memory_bytes: int | None
    available_bytes: int | None
    clusters: tuple[Cluster, ...]
    battery: Battery
    thermal: Thermal

    @property
    def temperature_c(self) -> float | None:
        """What the gate looks at: the case's temperature, else the battery's."""
        return self.battery.temperature_c if self.thermal.skin_c is None else self.thermal.skin_c

    @property
    def emulated(self) -> bool:
        """Whether neither its time nor its memory says anything: they are the emulator's."""
        return self.kind == "emulated-arm64"

    def environment(self) -> Environment:
        """What result rows say of it."""
        facts: dict[str, Any] = asdict(self)
        model, kind = facts.pop("model"), facts.pop("kind")
        return Environment(kind=kind, cpu=facts.pop("soc") or self.machine or "unknown", device=model, **facts)


@dataclass(frozen=True)
class Gate:
    """How a device was found before a run.

    Attributes:
        temperature_c: At the end of the wait; None: it has no thermometer that a shell may read.
        waited_seconds: How long it was given to cool down.
        passed: Whether it is cool enough; None: unknown.
    """

    temperature_c: float | None
    waited_seconds: float
    passed: bool | None

    @property
    def reason(self) -> str | None:
        """Why the measurement may not be quoted, if so."""
        if self.passed is None:
            return "no thermometer could be read"
        return None if self.passed else f"the device stayed at {self.temperature_c:.1f} °C"

    def judged(self, limit_c: float) -> "Gate":
        """The same, with the limit of today: it may have been another one when the run was begun."""
        return replace(self, passed=None if self.temperature_c is None else self.temperature_c <= limit_c)


def probe(device: Transport) -> Facts:
    """Look at a device.

    Raises:
        DeviceLostError: It does not answer.
    """

    def said(*command: str) -> str:
        answer = device.run(command)
        return "" if answer.status else answer.text

    told = probe_text.properties(said("getprop"))
    machine = said("uname", "-m").strip() or None
    memory = said("cat", "/proc/meminfo")
    emulator = "1" in (told.get("ro.boot.qemu"), told.get("ro.kernel.qemu"))
    soc = told.get("ro.soc.model") or told.get("ro.board.platform")
    board = said("cat", "/proc/device-tree/model").strip("\0\n ")
    return Facts(
        name=device.name,
        kind=_kind(machine, bool(told.get("ro.build.version.release")), emulator, said("cat", BOOT_ID), board),
        machine=machine,
        abi=ABIS.get(machine or ""),
        soc=soc or probe_text.processor(said("cat", "/proc/cpuinfo")),
        model=told.get("ro.product.model") or board or None,
        android=told.get("ro.build.version.release") or None,
        memory_bytes=probe_text.memory_bytes(memory, "MemTotal"),
        available_bytes=probe_text.memory_bytes(memory, "MemAvailable"),
        clusters=probe_text.clusters(_prefixed(said("sh", "-c", POLICIES))),
        battery=probe_text.battery(said("dumpsys", "battery")),
        thermal=probe_text.thermal(said("dumpsys", "thermalservice")),
    )


def pinning(facts: Facts, wanted: str) -> tuple[int, ...]:
    """Processors for a run.

    Args:
        facts: The device.
        wanted: all: wherever the kernel likes; big: the fastest cluster; little: the slowest; or numbers, as 4,5.

    Returns:
        Their numbers; none for all.

    Raises:
        InputError: Neither of these, or a processor that the device does not have.
        MachineError: The device does not tell its clusters.
    """
    if wanted == "all":
        return ()
    if wanted in ("big", "little"):
        if not facts.clusters:
            raise MachineError(
                "the device does not tell its clusters",
                where=facts.name,
                fix="give the processors' numbers, or all, as --set device.pin=all",
            )
        return facts.clusters[-1 if wanted == "big" else 0].cpus
    words = wanted.split(",")
    known = {cpu for cluster in facts.clusters for cpu in cluster.cpus}
    if not all(word.isascii() and word.isdigit() and len(word) < 5 for word in words):
        raise InputError("no such pinning", got=repr(wanted), wanted="all, big, little, or numbers as 4,5")
    cpus = tuple(sorted({int(word) for word in words}))
    if known and not set(cpus) <= known:
        raise InputError("no such processor", where=facts.name, got=min(set(cpus) - known), wanted=f"0 to {max(known)}")
    return cpus


def cool_down(device: Transport, limit_c: float, seconds: float) -> Gate:
    """Wait until a device is cool enough, but not for ever.

    Args:
        device: Where.
        limit_c: Warmest that is cool enough.
        seconds: Longest wait.

    Raises:
        DeviceLostError: It does not answer.
        StoppedError: Nothing more is wanted of it.
    """
    waited = 0.0
    while True:
        found = probe_text.thermal(_dumped(device, "thermalservice")).skin_c
        if found is None:
            found = probe_text.battery(_dumped(device, "battery")).temperature_c
        if found is None or found <= limit_c or waited >= seconds:
            return Gate(found, waited, None if found is None else found <= limit_c)
        device.pause(COOL_SECONDS)
        waited += COOL_SECONDS


def _dumped(device: Transport, service: str) -> str:
    answer = device.run(("dumpsys", service))
    return "" if answer.status else answer.text


def _prefixed(lines: str) -> str:
    return "".join(f"cpufreq/{line}\n" for line in lines.splitlines())


def _kind(machine: str | None, android: bool, emulator: bool, boot_id: str, board: str) -> Kind:
    x86 = machine in ("x86_64", "amd64", "i686")
    here = Path(BOOT_ID)
    same_kernel = bool(boot_id.strip()) and here.exists() and here.read_text().strip() == boot_id.strip()
    if not x86 and (emulator or (same_kernel and machine != platform.machine())):
        return "emulated-arm64"  # another architecture on the very kernel that runs this, or an emulator's own word
    if x86:
        return "host-x86"
    if android:
        return "phone"
    return record.arm_kind(board) if ABIS.get(machine or "") == "aarch64" else "sbc"
