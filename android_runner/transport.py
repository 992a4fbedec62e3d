"""Files and programs on a device, whatever link leads there.

Nothing counts because an exit code was 0: a command's answer ends with a mark that only its own end can have written,
a file's hash is compared on the device before the file gets its name, and a run's result is checked by `journal`. Names
on the device are of a small alphabet, and every word of a line is quoted besides.
"""

import re
import secrets
import shlex
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from tprune.android_runner.links import DeviceLostError, Link
from tprune.artifact import sha256
from tprune.errors import InputError, MachineError

NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+-]*(/[A-Za-z0-9_][A-Za-z0-9._+-]*)*")
SECONDS = 30.0  # for a short command
LONGEST_PAUSE, SLOWER = 10.0, 1.2  # s between two looks at a run, and how much longer each pause is than the last
SLOWEST_BYTES_PER_SECOND = 1e6  # of a link, for the time limit of a copy
PID, STATUS, LOG = "pid", "status", "log.txt"
# a process of that number that works here: numbers are given again, after a restart of the device at the latest
ALIVE = f'p="$(cat {PID} 2> /dev/null)" && test -n "$p" && test "/proc/$p/cwd" -ef .'
# with its group, which `start` has made where it could
END = f'{{ if {ALIVE}; then {{ kill -s KILL -- -"$p" || kill -s KILL "$p"; }} 2> /dev/null; fi; }}'

State = Literal["running", "ended", "gone"]


@dataclass(frozen=True)
class Answer:
    """What a command said, standard error included, and its exit status."""

    status: int
    output: bytes

    @property
    def text(self) -> str:
        """The output; bytes that are no UTF-8 are replaced."""
        return self.output.decode(errors="replace")


class Transport(Protocol):
    """What a session needs of a device. Paths are names below the device's own folder for tprune."""

    @property
    def name(self) -> str:
        """How the user calls the device."""
        ...

    def run(self, command: Sequence[str], seconds: float = SECONDS) -> Answer:
        """Run a short command and wait for its end."""
        ...

    def push(self, files: Mapping[str, Path]) -> list[str]:
        """Copy what differs from what is there already; the names of the copied."""
        ...

    def pull(self, name: str, seconds: float = SECONDS) -> bytes:
        """A file's content."""
        ...

    def start(self, folder: str, command: Sequence[str]) -> None:
        """Start a program that goes on without the link; it works in `folder`."""
        ...

    def poll(self, folder: str) -> State:
        """What has become of the program of a folder."""
        ...

    def kill(self, folder: str) -> None:
        """End the program of a folder, if it still runs."""
        ...


class Device:
    """A device behind a link: see `Transport`.

    Args:
        link: The way there.
        folder: Where everything goes; None: the link's own choice.
    """

    def __init__(self, link: Link, folder: str | None = None) -> None:
        self._link, self.folder = link, link.folder if folder is None else folder

    @property
    def name(self) -> str:
        """How the user calls the device."""
        return self._link.name

    def run(self, command: Sequence[str], seconds: float = SECONDS) -> Answer:
        """Run a short command, wherever the device's shell begins, and wait for its end.

        Raises:
            DeviceLostError: No answer, or one without its end.
        """
        return self._shell(shlex.join(command), seconds)

    def push(self, files: Mapping[str, Path]) -> list[str]:
        """Copy files that are not there yet with the same content.

        Args:
            files: What is to lie on the device by name there.

        Returns:
            The names of those that were copied.

        Raises:
            InputError: A name that no file on a device is given.
            DeviceLostError: The device does not answer any more.
            MachineError: Its disk is full, or what arrived is not what was sent. No file is then half there.
        """
        wanted = {_checked(name): sha256(path) for name, path in files.items()}
        there = self._hashes(list(wanted))
        pushed = [name for name, digest in wanted.items() if there.get(name) != digest]
        for name in pushed:
            self._push(files[name], name, wanted[name])
        return pushed

    def pull(self, name: str, seconds: float = SECONDS) -> bytes:
        """A file's content.

        Raises:
            DeviceLostError: The device does not answer any more.
            MachineError: No such file.
        """
        found = self._shell(f"cat {self._path(name)}", seconds)
        if found.status:
            raise MachineError("cannot be read", where=f"{self.name} {name}", got=found.text.strip())
        return found.output

    def start(self, folder: str, command: Sequence[str]) -> None:
        """Start a program in an existing folder; it goes on without the link.

        Raises:
            DeviceLostError: The device does not answer any more.
            MachineError: The folder is not there.
        """
        # a session of its own: neither the link's end nor a terminal's reaches it once its number is written
        program = f"echo $$ > {PID}; {shlex.join(command)}; echo $? > {STATUS}.new; mv {STATUS}.new {STATUS}"
        line = (
            f"cd {self._path(folder)} && rm -f {STATUS} {PID} && "
            f"{{ $(command -v setsid || echo nohup) sh -c {shlex.quote(program)} > {LOG} 2>&1 < /dev/null & "
            f"for i in 1 2 3 4 5 6 7 8 9; do test -s {PID} && exit; sleep 0.$i; done; cat {LOG}; exit 1; }}"
        )
        self._must(line, f"start {folder}")

    def poll(self, folder: str) -> State:
        """What has become of the program of a folder: running, ended by itself, or gone without a trace.

        Raises:
            DeviceLostError: The device does not answer any more.
        """
        line = (
            f"cd {self._path(folder)} || {{ echo gone; exit 0; }}; if test -f {STATUS}; then echo ended; "
            f"elif {ALIVE}; then echo running; elif test -f {STATUS}; then echo ended; else echo gone; fi"
        )
        last = self._must(line, f"look at {folder}").text.split()[-1:]
        states: Mapping[str, State] = {"ended": "ended", "running": "running"}
        return states.get("".join(last), "gone")

    def wait(self, folder: str, seconds: float, every: float = 0.5) -> State:
        """Wait until the program of a folder has ended, and end it when that takes too long.

        Each look is a program on the device beside the one that is timed: the longer that takes, the fewer there are.

        Raises:
            DeviceLostError: The device does not answer any more.
            MachineError: Out of time; the program was ended.
        """
        limit = time.monotonic() + seconds
        while (state := self.poll(folder)) == "running":
            if time.monotonic() > limit:
                self.kill(folder)
                raise MachineError("the run takes too long", where=f"{self.name} {folder}", got=f"{seconds:.0f} s")
            time.sleep(every)
            every = min(LONGEST_PAUSE, SLOWER * every)
        return state

    def kill(self, folder: str) -> None:
        """End the program of a folder with everything it started, if it still runs.

        Raises:
            DeviceLostError: The device does not answer any more.
        """
        self._must(f"cd {self._path(folder)} && {END}", f"end {folder}")

    def clear(self, folder: str) -> None:
        """Remove the folders in a folder, their programs ended, if it is there.

        Raises:
            DeviceLostError: The device does not answer any more.
            MachineError: They cannot be removed.
        """
        each = (
            f'for one in */; do test -d "$one" || continue; ( cd "./$one" && {END} ); rm -rf "./$one" || exit 1; done'
        )
        self._must(f"cd {self._path(folder)} 2> /dev/null || exit 0; {each}", f"clear {folder}")

    def remove(self, folder: str) -> None:
        """Remove a folder, if it is there.

        Raises:
            DeviceLostError: The device does not answer any more.
            MachineError: It cannot be removed.
        """
        self._must(f"rm -rf {self._path(folder)}", f"remove {folder}")

    def make_folder(self, name: str) -> None:
        """Make a folder with those above it, if it is not there.

        Raises:
            DeviceLostError: The device does not answer any more.
            MachineError: It cannot be made.
        """
        self._must(f"mkdir -p {self._path(name)}", f"make {name}")

    def _push(self, source: Path, name: str, digest: str) -> None:
        path, partial = f"{self.folder}/{name}", f"{self.folder}/{name}.partial"
        quoted = shlex.quote(partial)
        self._must(f"mkdir -p {shlex.quote(path.rpartition('/')[0])}", f"make a folder for {name}")
        size = source.stat().st_size
        self._link.upload(source, partial, SECONDS + size / SLOWEST_BYTES_PER_SECOND)
        mode = 755 if source.stat().st_mode & 0o100 else 644
        arrived = self._shell(f"sha256sum {quoted}", SECONDS)
        if arrived.text.split()[:1] == [digest]:
            self._must(f"chmod {mode} {quoted} && mv -f {quoted} {shlex.quote(path)}", f"name {name}")
            return
        free = self._shell(f"df -k {shlex.quote(self.folder)}", SECONDS).text.split("\n")[1:2]
        self._must(f"rm -f {quoted}", f"remove {name}.partial")
        room = _free_bytes(free)
        if room is not None and room < size:
            raise MachineError(
                "the device's disk is full",
                where=f"{self.name} {name}",
                got=f"{room / 1e6:.1f} MB free",
                wanted=f"{size / 1e6:.1f} MB",
                fix="free some space there; nothing half-written was left",
            )
        raise MachineError(
            "the file did not arrive",
            where=f"{self.name} {name}",
            got=arrived.text.strip() or "nothing",
            fix="run the same command again; nothing half-written was left",
        )

    def _hashes(self, names: Sequence[str]) -> dict[str, str]:
        if not names:
            return {}
        said = self._shell(f"cd {shlex.quote(self.folder)} && sha256sum {shlex.join(names)}", 10 * SECONDS).text
        found = (re.fullmatch(r"([0-9a-f]{64}) [ *](\S+)", line) for line in said.splitlines())
        return {match[2]: match[1] for match in found if match}

    def _path(self, name: str) -> str:
        return shlex.quote(f"{self.folder}/{_checked(name)}")

    def _must(self, line: str, doing: str) -> Answer:
        answer = self._shell(line, SECONDS)
        if answer.status:
            raise MachineError(f"cannot {doing}", where=self.name, got=answer.text.strip().rpartition("\n")[2])
        return answer

    def _shell(self, line: str, seconds: float) -> Answer:
        """Run a line whose every word is quoted; the mark at the end of its output says that it has ended."""
        mark = f"end-{secrets.token_hex(8)}"
        said = self._link.shell(f"( {line} ) 2>&1; status=$?; echo; echo {mark} $status", seconds)
        end = re.search(rf"\r?\n{mark} ([0-9]+)\r?\n\Z".encode(), said.output)
        if end is None:
            raise DeviceLostError(
                "the device's answer broke off",
                where=self.name,
                got=said.error.strip().rpartition("\n")[2] or f"{len(said.output)} bytes without an end",
                fix="connect it again and run the same command: it goes on from here",
            )
        return Answer(int(end[1]), said.output[: end.start()])


def _checked(name: str) -> str:
    if not NAME.fullmatch(name):
        raise InputError(
            "no name for a file on a device",
            got=repr(name),
            wanted="letters, digits, . _ + - and no part that begins with . + or -",
            fix="rename it",
        )
    return name


def _free_bytes(line: Sequence[str]) -> int | None:
    """The fourth word of `df -k` is the free space in KiB, whoever wrote the program."""
    words = "".join(line).split()
    return 1024 * int(words[3]) if len(words) > 3 and words[3].isdigit() else None
