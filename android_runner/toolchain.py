"""The tools that runners are built with: where they are, and what they say."""

import shutil
import subprocess
from collections.abc import Mapping, Sequence

from tprune.errors import MachineError

SECONDS, QUESTION_SECONDS = 600, 30  # for a build, and for what a compiler says of itself


def tool(name: str) -> str:
    """Where a tool is.

    Raises:
        MachineError: It is missing.
    """
    found = shutil.which(name)
    if found is None:
        raise MachineError("a tool is missing", where=name, fix=f"install {PACKAGES.get(name, name)}")
    return found


def run(command: Sequence[str], name: str) -> None:
    """Run a part of a build.

    Args:
        command: What to run.
        name: What is built, for the error.

    Raises:
        MachineError: It fails: with the first thing that the compiler complains of. Or it takes too long.
    """
    ended = _called(command, SECONDS)
    if ended.returncode:
        lines = (ended.stdout + ended.stderr).splitlines()
        errors = [line for line in lines if "error: " in line or "CMake Error" in line] or lines[-1:]
        raise MachineError(f"{name} cannot be built", where=command[0], got=" ".join(errors[:1]), fix="correct it")


def said(command: Sequence[str]) -> str:
    """What a compiler says of itself.

    Raises:
        MachineError: It fails or takes too long.
    """
    ended = _called(command, QUESTION_SECONDS)
    if ended.returncode:
        last = (ended.stderr or ended.stdout).strip().splitlines()[-1:]
        raise MachineError("the compiler does not work", where=command[0], got="; ".join(last), fix="repair it")
    return ended.stdout


def _called(command: Sequence[str], seconds: float) -> "subprocess.CompletedProcess[str]":
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=seconds, errors="replace")
    except subprocess.TimeoutExpired:
        raise MachineError(
            "a tool does not come to an end",
            where=command[0],
            got=f"more than {seconds:g} s",
            fix="run the same command again when this machine has less to do",
        ) from None


PACKAGES: Mapping[str, str] = {
    "cmake": "cmake",
    "make": "make or ninja-build",
    "c++": "g++",
    "aarch64-linux-gnu-g++": "g++-aarch64-linux-gnu",
}
