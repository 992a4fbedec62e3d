"""Devices side by side, a thread each: one that fails is told at once, and all end when nobody waits any more."""

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import TypeVar

from tprune.android_runner.transport import Device
from tprune.errors import TpruneError

Found = TypeVar("Found")
# A Ctrl-C that comes just before Python begins to wait does not end the waiting: it is heard when that is over.
DEAF_SECONDS = 0.5


def on_all(
    devices: Sequence[Device], work: Callable[[Device], Found], stop: threading.Event, tell: Callable[[str], None]
) -> list[Found]:
    """What the work gives on each device, in their order.

    A device that fails is told at once, and the others go on: what they have done is kept for the next time. At an
    interruption, or an error that nobody foresaw, they are stopped, and what runs on them is ended.

    Args:
        devices: Where, made with `stop`.
        work: What is done on a device.
        stop: Set to end the waiting on all devices.
        tell: Gets a line about each device that fails while others are at work.

    Raises:
        TpruneError: Of the device that failed last: those before it have been told.
    """
    failed: TpruneError | None = None
    with ThreadPoolExecutor(len(devices)) as pool:
        try:
            asked = {pool.submit(work, device): device for device in devices}
            for number, done in enumerate(_as_they_end(asked), start=1):
                error = done.exception()
                if error is None:
                    continue
                if not isinstance(error, TpruneError):
                    raise error
                failed = error
                if number < len(devices):
                    tell(f"{asked[done].name} failed, the others go on: {error}")
        except BaseException:
            stop.set()
            raise  # when the threads have ended what runs on their devices
    if failed is not None:
        raise failed
    return [done.result() for done in asked]


def _as_they_end(asked: Iterable[Future[Found]]) -> Iterator[Future[Found]]:
    left = {*asked}
    while left:
        ended, left = wait(left, DEAF_SECONDS, FIRST_COMPLETED)
        yield from ended
