"""Files and programs on a device, whatever link leads there.

Nothing counts because an exit code was 0, see `shell` and `files`; a run's result is checked by `journal`.
"""

import shlex
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from tprune.android_runner.files import Files
from tprune.android_runner.links import Link
from tprune.android_runner.shell import SECONDS, Answer, Shell
from tprune.errors import MachineError

# seconds between two looks at a run, of the time that it has had so far; and while it is sure to be at work
LEAST_PAUSE, LONGEST_PAUSE, PAUSE, QUIET_PAUSE = 0.5, 10.0, 0.2, 60.0
STUCK_SECONDS = 300.0  # without a byte from a run that tells every sentence
PID, STATUS, LOG = "pid", "status", "log.txt"
# a process of that number that works here: numbers are given again, after a restart of the device at the latest
ALIVE = f'p="$(cat {PID} 2> /dev/null)" && test -n "$p" && test "/proc/$p/cwd" -ef .'
# with its group, which `start` has made where it could
END = f'{{ if {ALIVE}; then {{ kill -s KILL -- -"$p" || kill -s KILL "$p"; }} 2> /dev/null; fi; }}'

State = Literal["running", "ended", "gone"]


@dataclass(frozen=True)
class Look:
    """What a look at a program finds.

    Attributes:
        state: What has become of it.
        mark: Of the files that it writes: another one when one of them has grown.
    """

    state: State
    mark: str


class StoppedError(MachineError):
    """Whoever wanted something of the device wants nothing more."""


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

    def pull(self, name: str) -> bytes:
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

    def pause(self, seconds: float) -> None:
        """Let time pass, unless nothing more is wanted of the device."""
        ...


class Device:
    """A device behind a link: see `Transport`.

    Args:
        link: The way there.
        folder: Where everything goes; None: the link's own choice.
        stop: Set by another thread when nothing more is wanted; None: nobody does.
    """

    def __init__(self, link: Link, folder: str | None = None, stop: threading.Event | None = None) -> None:
        self._shell, self._stop = Shell(link), stop or threading.Event()
        self._files = Files(self._shell, link.folder if folder is None else folder)

    @property
    def name(self) -> str:
        """How the user calls the device."""
        return self._shell.name

    @property
    def folder(self) -> str:
        """Where everything goes."""
        return self._files.folder

    def pause(self, seconds: float) -> None:
        """Let time pass, or see only whether anything is wanted still: 0.

        Raises:
            StoppedError: Nothing more is wanted of the device.
        """
        if self._stop.wait(seconds):
            raise StoppedError("stopped", where=self.name, fix="the same command goes on from here")

    def run(self, command: Sequence[str], seconds: float = SECONDS) -> Answer:
        """Run a short command, wherever the device's shell begins, and wait for its end; see `Shell.run`."""
        return self._shell.run(command, seconds)

    def push(self, files: Mapping[str, Path]) -> list[str]:
        """Copy files that are not there yet with the same content: the names of the copied; see `Files.push`."""
        return self._files.push(files)

    def pull(self, name: str) -> bytes:
        """A file's content; see `Files.pull`."""
        return self._files.pull(name)

    def refuse_full(self, folder: str, said: str) -> None:
        """Say that the disk is full, if that may be why the program of a folder has failed; see `Files.refuse_full`."""
        self._files.refuse_full(f"{self.name} {folder}", said)

    def start(self, folder: str, command: Sequence[str]) -> None:
        """Start a program in an existing folder; it goes on without the link.

        Raises:
            DeviceLostError: The device does not answer any more.
            MachineError: The folder is not there, or the disk is full.
        """
        # a session of its own: neither the link's end nor a terminal's reaches it once its number is written
        program = f"echo $$ > {PID} || exit; {shlex.join(command)}; echo $? > {STATUS}.new; mv {STATUS}.new {STATUS}"
        line = (
            f"cd {self._files.path(folder)} && rm -f {STATUS} {PID} && "
            f"{{ $(command -v setsid || echo nohup) sh -c {shlex.quote(program)} > {LOG} 2>&1 < /dev/null & "
            f"for i in 1 2 3 4 5 6 7 8 9; do test -s {PID} && exit; sleep 0.$i; done; cat {LOG}; exit 1; }}"
        )
        self._files.must(line, f"start {folder}")

    def poll(self, folder: str) -> State:
        """What has become of the program of a folder: running, ended by itself, or gone without a trace.

        Raises:
            DeviceLostError: The device does not answer any more.
        """
        return self.look(folder).state

    def look(self, folder: str, grows: Sequence[str] = ()) -> Look:
        """What has become of the program of a folder, and how far it is with the files that it writes.

        Raises:
            DeviceLostError: The device does not answer any more.
        """
        sizes = "".join(f"ls -ln {self._files.path(name)} 2> /dev/null; " for name in grows)
        line = (
            f"{sizes}cd {self._files.path(folder)} || {{ echo gone; exit 0; }}; if test -f {STATUS}; then echo ended; "
            f"elif {ALIVE}; then echo running; elif test -f {STATUS}; then echo ended; else echo gone; fi"
        )
        words = self._shell.must(line, f"look at {folder}").text.split()
        states: Mapping[str, State] = {"ended": "ended", "running": "running"}
        return Look(states.get("".join(words[-1:]), "gone"), " ".join(words[:-1]))

    def wait(self, folder: str, seconds: float, quiet: float = 0.0, grows: Sequence[str] = ()) -> State:
        """Wait until the program of a folder has ended, and end it when that takes too long.

        Each look is a program on the device beside the one that is timed, over ssh a handshake besides: while that one
        is sure to be at work there is at most one a minute, and later the fewer, the longer it takes.

        Args:
            folder: Of the program.
            seconds: Most time that it may take.
            quiet: How long it is sure to take.
            grows: Files that it writes all the time: when it does not for STUCK_SECONDS, it is stuck.

        Raises:
            DeviceLostError: The device does not answer any more.
            MachineError: Out of time, or stuck; the program was ended.
            StoppedError: Nothing more is wanted of the device; the program goes on.
        """
        begin = grown = time.monotonic()
        mark = ""
        while True:
            passed = time.monotonic() - begin
            if passed < quiet:
                self.pause(min(QUIET_PAUSE, quiet - passed))
            found, now = self.look(folder, grows), time.monotonic()
            if found.state != "running":
                return found.state
            if found.mark != mark:
                mark, grown = found.mark, now
            late = f"{seconds:.0f} s" if now - begin > seconds else None
            stuck = f"nothing new for {now - grown:.0f} s" if grows and now - grown > STUCK_SECONDS else None
            if late or stuck:
                self.kill(folder)
                raise MachineError(
                    "the run takes too long" if late else "the run is stuck",
                    where=f"{self.name} {folder}",
                    got=late or stuck,
                    fix="it was ended; the same command begins it again, and keeps those before it",
                )
            if now - begin >= quiet:
                self.pause(min(LONGEST_PAUSE, max(LEAST_PAUSE, PAUSE * (now - begin))))

    def kill(self, folder: str) -> None:
        """End the program of a folder with everything it started, if it still runs.

        Raises:
            DeviceLostError: The device does not answer any more.
        """
        self._shell.must(f"cd {self._files.path(folder)} && {END}", f"end {folder}")

    def clear(self, folder: str) -> None:
        """Remove the folders in a folder, their programs ended, if it is there.

        Raises:
            DeviceLostError: The device does not answer any more.
            MachineError: They cannot be removed.
        """
        each = (
            f'for one in */; do test -d "$one" || continue; ( cd "./$one" && {END} ); rm -rf "./$one" || exit 1; done'
        )
        self._shell.must(f"cd {self._files.path(folder)} 2> /dev/null || exit 0; {each}", f"clear {folder}")

    def remove(self, folder: str) -> None:
        """Remove a folder, if it is there.

        Raises:
            DeviceLostError: The device does not answer any more.
            MachineError: It cannot be removed.
        """
        self._shell.must(f"rm -rf {self._files.path(folder)}", f"remove {folder}")

    def make_folder(self, name: str) -> None:
        """Make a folder with those above it, if it is not there.

        Raises:
            DeviceLostError: The device does not answer any more.
            MachineError: It cannot be made.
        """
        self._files.must(f"mkdir -p {self._files.path(name)}", f"make {name}")
