"""A disk that is full, or a place where nothing can be written, told in one error however a library reports it."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tprune.errors import InputError, MachineError


@contextmanager
def disk_space(out: Path) -> Iterator[None]:
    """Turn the many ways in which a full disk shows into one MachineError."""
    try:
        yield
    except Exception as error:
        if _is_disk_full(error):
            raise MachineError(
                "no space left on the disk",
                where=out,
                fix="free some space or choose another --out, then run the same command again",
            ) from None
        raise


def make_folder(folder: Path, out: Path) -> None:
    """Make a folder, and those above it, for what is going to be `out`.

    Raises:
        InputError: A file is in the way, or nothing can be written there.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        if _is_disk_full(error):
            raise
        raise InputError(
            "nothing can be written here", where=out, got=error.strerror, fix="choose another directory"
        ) from None


def _is_disk_full(error: BaseException) -> bool:
    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    # torch and safetensors report a full disk as a plain error with the system's words in it.
    words = ("No space left on device", "os error 28", "file write failed", "unexpected pos")
    return full or any(word in str(error) for word in words)
