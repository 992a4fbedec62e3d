"""A device's shell: lines whose every word is quoted, and answers that are whole.

Nothing counts because an exit code was 0: a command's answer ends with a mark that only its own end can have written.
"""

import re
import secrets
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tprune.android_runner.links import Link
from tprune.android_runner.refusals import DeviceLostError
from tprune.errors import MachineError

SECONDS = 30.0  # for a short command
SLOWEST_BYTES_PER_SECOND = 1e6  # of a link or a memory card, for the time limit of what reads or copies a file


@dataclass(frozen=True)
class Answer:
    """What a command said, standard error included, and its exit status."""

    status: int
    output: bytes

    @property
    def text(self) -> str:
        """The output; bytes that are no UTF-8 are replaced."""
        return self.output.decode(errors="replace")


class Shell:
    """The shell behind a link.

    Args:
        link: The way there.

    Attributes:
        losses: How often the device did not answer.
    """

    def __init__(self, link: Link) -> None:
        self._link, self.losses = link, 0

    @property
    def name(self) -> str:
        """How the user calls the device."""
        return self._link.name

    def run(self, command: Sequence[str], seconds: float = SECONDS) -> Answer:
        """Run a command and wait for its end.

        Raises:
            DeviceLostError: No answer, or one without its end.
        """
        return self.ask(shlex.join(command), seconds)

    def ask(self, line: str, seconds: float = SECONDS) -> Answer:
        """Run a line whose every word is quoted; the mark at the end of its output says that it has ended.

        Raises:
            DeviceLostError: No answer, or one without its end.
        """
        mark = f"end-{secrets.token_hex(8)}"
        try:
            said = self._link.shell(f"( {line} ) 2>&1; left=$?; echo; echo {mark} $left", seconds)
        except DeviceLostError:
            self.losses += 1
            raise
        end = re.search(rf"\n{mark} ([0-9]+)\r?\n\Z".encode(), said.output)
        if end is None:
            self.losses += 1
            raise DeviceLostError(
                "the device's answer broke off",
                where=self.name,
                got=said.error.strip().rpartition("\n")[2] or f"{len(said.output)} bytes without an end",
                fix="connect it again and run the same command: it goes on from here",
            )
        return Answer(int(end[1]), said.output[: end.start()])

    def must(self, line: str, doing: str) -> Answer:
        """Run a line that must not fail.

        Raises:
            DeviceLostError: As for `ask`.
            MachineError: It fails.
        """
        answer = self.ask(line)
        if answer.status:
            said = answer.text.strip().rpartition("\n")[2]
            raise MachineError(f"cannot {doing}", where=self.name, got=said or f"exit status {answer.status}")
        return answer

    def upload(self, source: Path, path: str) -> str:
        """Copy a file; what the copying program complains of, if anything.

        Raises:
            DeviceLostError: The device does not answer, or not in time.
            MachineError: It takes no files.
        """
        try:
            return self._link.upload(source, path, seconds_for(source.stat().st_size))
        except DeviceLostError:
            self.losses += 1
            raise


def seconds_for(size_bytes: int) -> float:
    """Time limit of what reads or copies so much."""
    return SECONDS + size_bytes / SLOWEST_BYTES_PER_SECOND
