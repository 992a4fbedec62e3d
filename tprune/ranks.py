"""Runs of several processes (`torchrun`, `accelerate launch`): the first one writes, the others follow."""

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

PAUSE_SECONDS = 0.2


def is_follower() -> bool:
    """Whether another process of this run writes the artifacts."""
    return int(os.environ.get("RANK", "0")) > 0


def are_several() -> bool:
    """Whether this run has other processes."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


@contextmanager
def follow(scratch: Path, started: Callable[[], bool], finished: Callable[[], bool]) -> Iterator[Path]:
    """Yield a directory of one's own whose `scratch` is the first process's; wait for that one's artifact.

    Args:
        scratch: The first process's scratch directory, where the checkpoints of all lie.
        started: Whether the first process has prepared it.
        finished: Whether the first process has finished the artifact.
    """
    while not (started() or finished()):
        time.sleep(PAUSE_SECONDS)
    with tempfile.TemporaryDirectory() as own:
        (Path(own) / scratch.name).symlink_to(scratch.resolve(), target_is_directory=True)
        yield Path(own)
    while not finished():
        time.sleep(PAUSE_SECONDS)
