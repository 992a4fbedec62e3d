"""What adb, ssh and scp say instead of a device, in words."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from tprune.errors import MachineError


class DeviceLostError(MachineError):
    """The device does not answer any more; the same command goes on when it is back."""


@dataclass(frozen=True)
class Refusal:
    """Something that a tool says.

    Attributes:
        pattern: What it looks like.
        what: What it means.
        fix: What to do.
        lost: Whether the device is away and may come back; else it is there, and trying again changes nothing.
    """

    pattern: str
    what: str
    fix: str
    lost: bool = True


def refusal(name: str, error: str) -> MachineError | None:
    """What adb or ssh say instead of the device, in words; None when it is nothing of theirs."""
    for one in REFUSALS:
        if found := re.search(one.pattern, error, re.IGNORECASE | re.MULTILINE):
            line = error[error.rfind("\n", 0, found.start()) + 1 :].partition("\n")[0]
            kind = DeviceLostError if one.lost else MachineError
            return kind(one.what, where=name, got=line.strip(), fix=one.fix)
    return None


REFUSALS: Sequence[Refusal] = (
    Refusal(
        r"device unauthorized|device still authorizing",
        "the device has not authorized this computer",
        "unlock it and confirm the question about debugging",
    ),
    Refusal(
        r"^(adb: )?error: (device|closed).*(offline|closed)|device offline",
        "the device is offline",
        "connect it again, or restart adb with `adb kill-server`",
    ),
    Refusal(
        r"^(adb: )?error: (device .* not found|no devices|protocol fault|closed|connect failed)|no devices/emulators",
        "the device is not there",
        "connect it; `tprune devices` shows what is",
    ),
    Refusal(
        r"cannot connect to daemon|failed to start daemon",
        "adb's server does not start",
        "look at what `adb start-server` says",
    ),
    Refusal(  # before the next one: scp then says besides that the connection was closed
        r"subsystem request failed|sftp-server.*(not found|no such file)",
        "the host takes no files: it has no SFTP server",
        "install one there (openssh-sftp-server) and name it in its sshd_config: Subsystem sftp …",
        lost=False,
    ),
    Refusal(
        r"Could not resolve hostname|Connection (refused|timed out|closed|reset)|No route to host|lost connection"
        r"|Network is unreachable|Broken pipe",
        "the host does not answer",
        "look at its name and its network, then run the same command again",
    ),
    Refusal(
        r"Permission denied \(|Host key verification failed|Too many authentication failures",
        "the host does not let this user in",
        "make `ssh HOST true` work without a password",
    ),
)
