"""Runners that the user has built, as with the NDK for a phone: taken as they are in place of one that is built here.

A folder is named in an environment variable of the machine's kind. What lies in it goes to the device under a name of
its content, so that a runner that was built anew is pushed anew.
"""

import hashlib
import os
import shutil
from collections.abc import Collection
from pathlib import Path

from tprune.android_runner.files import checked
from tprune.artifact import sha256
from tprune.errors import InputError

# "machine" of an ELF header, see elf.h
MACHINES = {62: "x86_64", 183: "aarch64"}


def variable(abi: str) -> str:
    """The environment variable that names the folder for a kind of machine."""
    return f"TPRUNE_RUNNER_{abi.upper()}"


def taken(program: str, abi: str, cache: Path, programs: Collection[str]) -> Path | None:
    """A copy of the user's runner and what lies beside it, under a name of its content; None: none is given.

    Args:
        program: The runner's name.
        abi: Of the machine it is for.
        cache: Where the copy goes: it stays as it is while the user builds again.
        programs: All runners' names; the others are left out.

    Raises:
        InputError: No such folder, none of these programs in it, one for another machine, or a file whose name no file
            on a device is given.
    """
    named = os.environ.get(variable(abi))
    if not named:
        return None
    folder = Path(named)
    if not any((folder / one).is_file() for one in programs):
        raise InputError(
            "no runner in the folder",
            where=variable(abi),
            got=named,
            wanted=f"{' or '.join(programs)} and the libraries that it needs",
            fix="name the folder that it was built in, or unset the variable",
        )
    if not (folder / program).is_file():  # it has the other engine's, and this one can be built here
        return None
    files = {checked(path.name): path for path in sorted(folder.iterdir()) if path.is_file()}
    own = {name: path for name, path in files.items() if name == program or name not in programs}
    _check_machine(own[program], abi)
    digest = hashlib.sha256(repr([(name, sha256(path)) for name, path in own.items()]).encode()).hexdigest()
    out = cache / f"{program}-{abi}-given-{digest[:16]}"
    if not out.exists():
        partial = out.with_name(f"{out.name}.{os.getpid()}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        for name, path in own.items():
            shutil.copy(path, partial / name)
        (partial / program).chmod(0o755)
        partial.rename(out)
    return out


def command(folder: Path, program: str) -> tuple[str, ...]:
    """What starts a runner in its folder, with the libraries there.

    Where a C library's own loader lies beside it, that starts the runner; it would be given Termux's LD_PRELOAD, which
    is of Android's C library.
    """
    loader = next(iter(sorted(folder.glob("ld-linux-*.so.*"))), None)
    if loader is not None:
        return "env", "-u", "LD_PRELOAD", f"./{loader.name}", "--library-path", ".", f"./{program}"
    return "env", "LD_LIBRARY_PATH=.", f"./{program}"


def _check_machine(program: Path, abi: str) -> None:
    with program.open("rb") as file:
        head = file.read(20)
    if not head.startswith(b"\x7fELF"):
        return  # a script that starts one
    machine = int.from_bytes(head[18:20], "little")
    if MACHINES.get(machine) != abi:
        raise InputError(
            "the runner is for another machine",
            where=program,
            got=MACHINES.get(machine, f"ELF machine {machine}"),
            wanted=abi,
            fix=f"name the folder of one for {abi} in {variable(abi)}",
        )
