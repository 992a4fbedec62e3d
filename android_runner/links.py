"""Ways to a device: this machine itself, a phone on `adb`, a board on `ssh`.

A link runs one line of shell and copies one file; everything else is built on that in `transport`, so that what holds
for one link holds for all. What a line is made of is quoted there; here no line is put together.
"""

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tprune.android_runner.refusals import DeviceLostError, refusal
from tprune.errors import InputError, MachineError

SERIAL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]*")
HOST = re.compile(r"([A-Za-z0-9_][A-Za-z0-9._-]*@)?[A-Za-z0-9][A-Za-z0-9._-]*")
CONNECT_SECONDS = 15


@dataclass(frozen=True)
class Said:
    """What a line of shell left: bytes on standard output, text on standard error."""

    output: bytes
    error: str


class Link(Protocol):
    """One device."""

    @property
    def name(self) -> str:
        """How the user calls it: local, adb:SERIAL, ssh:HOST."""
        ...

    @property
    def folder(self) -> str:
        """Where tprune's files go, below which no other program's lie."""
        ...

    def shell(self, line: str, seconds: float) -> Said:
        """Run a line of POSIX shell; its exit code is not passed on, since not every link tells it.

        Raises:
            DeviceLostError: The device does not answer, or not in time.
        """
        ...

    def upload(self, source: Path, path: str, seconds: float) -> str:
        """Copy a file; whether all of it has arrived is for the caller to find out.

        Returns:
            The end of what the copying program says when it fails, on one line; else nothing.

        Raises:
            DeviceLostError: The device does not answer, or not in time.
            MachineError: The device takes no files.
        """
        ...


@dataclass(frozen=True)
class Local:
    """This machine."""

    folder: str = str(Path.home() / ".cache" / "tprune" / "device")
    name: str = "local"

    def shell(self, line: str, seconds: float) -> Said:
        """See `Link.shell`."""
        return _said(self.name, _call(["sh", "-c", line], seconds, self.name))

    def upload(self, source: Path, path: str, seconds: float) -> str:
        """See `Link.upload`."""
        return _complaint(self.name, _call(["cp", "--", str(source), path], seconds, self.name))


@dataclass(frozen=True)
class Adb:
    """A phone on a cable, or any other adbd.

    Args:
        serial: As `adb devices` shows it.
        command: What starts adb.

    Raises:
        InputError: No serial that adb would give.
    """

    serial: str
    command: tuple[str, ...] = ("adb",)
    folder: str = "/data/local/tmp/tprune"

    def __post_init__(self) -> None:
        if not SERIAL.fullmatch(self.serial):
            raise InputError(
                "no serial of a device",
                got=repr(self.serial),
                wanted="letters, digits, . _ : -",
                fix="give one that `tprune devices` shows",
            )

    @property
    def name(self) -> str:
        """See `Link.name`."""
        return f"adb:{self.serial}"

    def shell(self, line: str, seconds: float) -> Said:
        """See `Link.shell`."""
        return _said(self.name, self._call(["exec-out", line], seconds))

    def upload(self, source: Path, path: str, seconds: float) -> str:
        """See `Link.upload`."""
        return _complaint(self.name, self._call(["push", str(source), path], seconds))

    def _call(self, arguments: Sequence[str], seconds: float) -> subprocess.CompletedProcess[bytes]:
        return _call([*self.command, "-s", self.serial, *arguments], seconds, self.name)


@dataclass(frozen=True)
class Ssh:
    """A board, or Termux on a phone, that this user reaches without a password.

    Args:
        host: [USER@]HOST, or an alias of ~/.ssh/config, which knows ports and keys.
        config: Another such file.

    Raises:
        InputError: No name of a host.
    """

    host: str
    config: Path | None = None
    folder: str = ".cache/tprune/device"

    def __post_init__(self) -> None:
        if not HOST.fullmatch(self.host):
            raise InputError(
                "no name of a host",
                got=repr(self.host),
                wanted="[USER@]HOST of letters, digits, . _ -",
                fix="give an alias in ~/.ssh/config for anything else",
            )

    @property
    def name(self) -> str:
        """See `Link.name`."""
        return f"ssh:{self.host}"

    def shell(self, line: str, seconds: float) -> Said:
        """See `Link.shell`."""
        # the user's own shell there may be no POSIX one
        wrapped = f"exec sh -c {in_any_shell(line)}"
        return _said(self.name, _call([*self._options("ssh"), "--", self.host, wrapped], seconds, self.name))

    def upload(self, source: Path, path: str, seconds: float) -> str:
        """See `Link.upload`."""
        command = [*self._options("scp"), "--", str(source), f"{self.host}:{path}"]
        return _complaint(self.name, _call(command, seconds, self.name))

    def _options(self, program: str) -> list[str]:
        chosen = [] if self.config is None else ["-F", str(self.config)]
        return [program, *chosen, "-o", "BatchMode=yes", "-o", f"ConnectTimeout={CONNECT_SECONDS}"]


def open_link(device: str) -> Link:
    """The link that a `--device` flag means: local, adb, adb:SERIAL or ssh:HOST.

    Raises:
        InputError: None of these, or plain `adb` and not exactly one device.
        MachineError: adb or ssh is not installed.
    """
    kind, _, rest = device.partition(":")
    if kind == "local" and not rest:
        return Local()
    if kind == "ssh" and rest:
        return Ssh(rest)
    if kind == "adb" and ":" not in device:
        ready = [serial for serial, state in adb_devices().items() if state == "device"]
        if len(ready) != 1:
            raise InputError(
                "which device?" if ready else "no device is ready on adb",
                got=", ".join(f"adb:{serial}" for serial in ready) or "none",
                fix="name one of them" if ready else "connect one, or look at what `tprune devices` says of it",
            )
        return Adb(ready[0])
    if kind == "adb" and rest:
        return Adb(rest)
    raise InputError(
        "no such device", where="--device", got=repr(device), wanted="local, adb[:SERIAL] or ssh:HOST", fix="correct it"
    )


def open_links(devices: Sequence[str]) -> list[Link]:
    """The links that several `--device` flags mean.

    Raises:
        InputError: As for `open_link`, or two of them are one device: a run there ends whatever else runs.
        MachineError: As for `open_link`.
    """
    found = [open_link(device) for device in devices]
    names = [link.name for link in found]
    if len({*names}) < len(names):
        raise InputError("one device twice", where="--device", got=", ".join(names), fix="name each once")
    return found


def adb_devices(command: Sequence[str] = ("adb",)) -> dict[str, str]:
    """State by serial of everything on adb: device, offline, unauthorized …

    Raises:
        MachineError: adb is not installed or does not start.
    """
    listed = _call([*command, "devices"], CONNECT_SECONDS, "adb").stdout.decode(errors="replace")
    rows = (line.split("\t") for line in listed.splitlines() if "\t" in line)
    return {row[0]: row[1].strip() for row in rows}


def in_any_shell(line: str) -> str:
    """One word of bash, zsh, fish and their like: no backslash stands in quotes, where fish takes it for its own."""
    return "\\\\".join("'" + part.replace("'", "'\"'\"'") + "'" for part in line.split("\\"))


def _said(name: str, ended: subprocess.CompletedProcess[bytes]) -> Said:
    error = ended.stderr.decode(errors="replace")
    if ended.returncode and (refused := refusal(name, error)) is not None:
        raise refused
    return Said(ended.stdout, error)


def _complaint(name: str, ended: subprocess.CompletedProcess[bytes]) -> str:
    error = _said(name, ended).error or ended.stdout.decode(errors="replace")
    return "; ".join(error.strip().splitlines()[-2:]) if ended.returncode else ""


def _call(command: Sequence[str], seconds: float, name: str) -> subprocess.CompletedProcess[bytes]:
    if shutil.which(command[0]) is None:
        raise MachineError("a tool is missing", where=command[0], fix=f"install {PACKAGES.get(command[0], command[0])}")
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    ) as process:
        try:
            output, error = process.communicate(timeout=seconds)
        except BaseException as problem:
            os.killpg(process.pid, signal.SIGKILL)  # with what it started, which would hold the pipes open
            if not isinstance(problem, subprocess.TimeoutExpired):
                raise
            raise DeviceLostError(
                "the device does not answer",
                where=name,
                got=f"nothing in {seconds:g} s",
                fix="look at its cable or network, then run the same command again",
            ) from None
    return subprocess.CompletedProcess(command, process.returncode, output, error)


PACKAGES = {"adb": "adb (Android platform tools)", "ssh": "openssh-client", "scp": "openssh-client"}
