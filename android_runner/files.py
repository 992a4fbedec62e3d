"""Files on a device: a file gets its name there when its hash has been compared, and is not hashed twice in a session.

Names on the device are of a small alphabet, and every word of a line is quoted besides.
"""

import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from tprune.android_runner.refusals import DeviceLostError
from tprune.android_runner.shell import Answer, Shell, seconds_for
from tprune.artifact import sha256
from tprune.errors import InputError, MachineError

NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+-]*(/[A-Za-z0-9_][A-Za-z0-9._+-]*)*")
PARTIAL = ".partial"
FULL_BYTES = 1_000_000  # with less, a disk on which something could not be written is full
MARK = "%i %s %y %Z %n"  # what `stat` is asked: inode, size, times, name


class Files:
    """What lies below a device's own folder for tprune.

    Hashing a file reads all of it, so that a cold start behind it would find it in memory. A file that has been hashed
    is therefore known by its inode, size and times, until the device was away.

    Args:
        shell: Of the device.
        folder: Where everything goes.
    """

    def __init__(self, shell: Shell, folder: str) -> None:
        self._shell, self.folder = shell, folder
        self._known: dict[str, tuple[str, str]] = {}  # mark and hash by name
        self._losses = -1  # of the shell, when everything half-written was last removed

    def push(self, files: Mapping[str, Path]) -> list[str]:
        """Copy files that are not there yet with the same content.

        Args:
            files: What is to lie on the device by name there.

        Returns:
            The names of those that were copied.

        Raises:
            InputError: A name that no file on a device is given.
            DeviceLostError: The device does not answer any more; what is half there goes when it is next pushed to.
            MachineError: Its disk is full, or what arrived is not what was sent. No file is then half there.
        """
        wanted = {checked(name): sha256(path) for name, path in files.items()}
        self._meet()
        marks = self._marks(list(wanted))
        there = {name: digest for name, (mark, digest) in self._known.items() if marks.get(name) == mark}
        unknown = {name: path for name, path in files.items() if name not in there}
        found = self._hashes(unknown)
        self._known |= {name: (marks[name], digest) for name, digest in found.items() if name in marks}
        there |= found
        pushed = [name for name, digest in wanted.items() if there.get(name) != digest]
        for name in pushed:
            self._push(files[name], name, wanted[name])
        self._known |= {name: (mark, wanted[name]) for name, mark in self._marks(pushed).items()}
        return pushed

    def pull(self, name: str) -> bytes:
        """A file's content.

        Raises:
            DeviceLostError: The device does not answer any more.
            MachineError: No such file.
        """
        path = self.path(name)
        size = "".join(self._shell.ask(f"wc -c < {path}").text.split()[-1:])
        found = self._shell.ask(f"cat {path}", seconds_for(int(size) if size.isdecimal() else 0))
        if found.status:
            raise MachineError("cannot be read", where=f"{self._shell.name} {name}", got=found.text.strip())
        return found.output

    def path(self, name: str) -> str:
        """A name's path, as a word of a line of shell.

        Raises:
            InputError: A name that no file on a device is given.
        """
        return shlex.quote(f"{self.folder}/{checked(name)}")

    def must(self, line: str, doing: str) -> Answer:
        """Run a line that writes something and must not fail; errors as for `Shell.must`, or the disk is full."""
        try:
            return self._shell.must(line, doing)
        except DeviceLostError:
            raise
        except MachineError:
            self.refuse_full(self._shell.name, f"cannot {doing}")
            raise

    def refuse_full(self, where: str, said: str) -> None:
        """Say that the disk is full, if it is: a program that cannot write for it often cannot even say so.

        Args:
            where: What has failed.
            said: What it said.

        Raises:
            DeviceLostError: The device does not answer any more.
            MachineError: The disk is full.
        """
        free = self._free_bytes()
        if free is not None and free < FULL_BYTES:
            raise _full(where, free, said=said)

    def _free_bytes(self) -> int | None:
        """Of the folder's disk, also before there is a folder. The fourth word of `df -kP`'s second line is KiB."""
        upwards = 'while ! test -e "$p"; do case "$p" in /*/* | [!/]*/*) p="${p%/*}" ;; /*) p=/ ;; *) p=. ;; esac; done'
        said = self._shell.ask(f'p={shlex.quote(self.folder)}; {upwards}; df -kP "$p"').text.splitlines()[1:2]
        words = "".join(said).split()
        return 1024 * int(words[3]) if len(words) > 3 and words[3].isdecimal() else None

    def _meet(self) -> None:
        """Begin anew with a device that has not been met, or was away since."""
        losses = self._shell.losses
        if losses == self._losses:
            return
        self._known.clear()
        gone = f"find . -name {shlex.quote('*' + PARTIAL)} -type f -exec rm -f {{}} +"
        self._shell.ask(f"cd {shlex.quote(self.folder)} && {gone}")
        self._losses = losses

    def _push(self, source: Path, name: str, digest: str) -> None:
        path, partial = f"{self.folder}/{name}", f"{self.folder}/{name}{PARTIAL}"
        quoted, where = shlex.quote(partial), f"{self._shell.name} {name}"
        self.must(f"mkdir -p {shlex.quote(path.rpartition('/')[0])}", f"make a folder for {name}")
        size = source.stat().st_size
        complaint = self._shell.upload(source, partial)
        mode = 755 if source.stat().st_mode & 0o100 else 644
        arrived = self._shell.ask(f"sha256sum {quoted}", seconds_for(size))
        if arrived.text.split()[:1] == [digest]:
            self.must(f"chmod {mode} {quoted} && mv -f {quoted} {shlex.quote(path)}", f"name {name}")
            return
        free = self._free_bytes()
        self._shell.must(f"rm -f {quoted}", f"remove {name}{PARTIAL}")
        if free is not None and free < size:
            raise _full(where, free, f"{size / 1e6:.1f} MB", "nothing half-written was left")
        raise MachineError(
            "the file did not arrive",
            where=where,
            got=complaint or arrived.text.strip() or "nothing",
            fix=f"{'correct what it says' if complaint else 'run the same command again'}; "
            "nothing half-written was left",
        )

    def _hashes(self, files: Mapping[str, Path]) -> dict[str, str]:
        """Hash by name of those that are there; their size is taken to be that of what is to be there."""
        size = sum(path.stat().st_size for path in files.values())
        said = self._told("sha256sum", list(files), seconds_for(size))
        found = (re.fullmatch(r"([0-9a-f]{64}) [ *](\S+)", line) for line in said)
        return {match[2]: match[1] for match in found if match}

    def _marks(self, names: Sequence[str]) -> dict[str, str]:
        """What tells by name whether a file was touched; nothing where there is no such `stat`."""
        said = self._told(f"stat -c {shlex.quote(MARK)}", names, seconds_for(0))
        found = (re.fullmatch(r"([0-9]+ [0-9]+ .+) (\S+)", line) for line in said)
        return {match[2]: match[1] for match in found if match}

    def _told(self, command: str, names: Sequence[str], seconds: float) -> list[str]:
        if not names:
            return []
        line = f"cd {shlex.quote(self.folder)} && {command} {shlex.join(names)}"
        return self._shell.ask(line, seconds).text.splitlines()


def checked(name: str) -> str:
    """A name, if a file on a device is given such a one.

    Raises:
        InputError: It is not.
    """
    if not NAME.fullmatch(name):
        raise InputError(
            "no name for a file on a device",
            got=repr(name),
            wanted="letters, digits, . _ + - and no part that begins with . + or -",
            fix="rename it",
        )
    return name


def _full(where: str, free: int, wanted: str | None = None, *left: str, said: str | None = None) -> MachineError:
    return MachineError(
        "the device's disk is full",
        where=where,
        got="; ".join(filter(None, [f"{free / 1e6:.1f} MB free", said])),
        wanted=wanted,
        fix="; ".join(["free some space there", *left]),
    )
