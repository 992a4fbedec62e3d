"""Devices side by side: what happens when one fails, and when the user has had enough."""

import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.android_runner.phones import until
from tests.artifacts import error_of
from tprune.android_runner.links import Local
from tprune.android_runner.side_by_side import on_all
from tprune.android_runner.transport import Device, StoppedError
from tprune.errors import MachineError


def two(folder: Path, stop: threading.Event) -> list[Device]:
    return [Device(Local(str(folder / name), name), stop=stop) for name in ("one", "two")]


def test_a_device_that_fails_is_told_while_the_other_goes_on(tmp_path: Path) -> None:
    stop, heard, told = threading.Event(), threading.Event(), list[str]()
    finished: list[str] = []

    def tell(line: str) -> None:
        told.append(line)
        heard.set()

    def work(device: Device) -> str:
        if device.name == "one":
            raise MachineError("the device's disk is full", where="one")
        assert heard.wait(20)  # the user knows before this one has ended
        finished.append(device.name)
        return device.name

    assert error_of(on_all, two(tmp_path, stop), work, stop, tell) == "one: the device's disk is full"
    assert told == ["one failed, the others go on: one: the device's disk is full"]
    assert finished == ["two"]


def test_no_failure_is_lost_when_all_devices_fail(tmp_path: Path) -> None:
    stop, heard, told = threading.Event(), threading.Event(), list[str]()

    def work(device: Device) -> str:
        assert device.name == "one" or heard.wait(20)
        raise MachineError(f"{device.name} is full")

    def tell(line: str) -> None:
        told.append(line)
        heard.set()

    error = error_of(on_all, two(tmp_path, stop), work, stop, tell)
    assert (told, error) == (["one failed, the others go on: one is full"], "two is full")


def test_what_devices_found_comes_in_their_order(tmp_path: Path) -> None:
    stop = threading.Event()

    def work(device: Device) -> str:
        time.sleep(0.2 * (device.name == "one"))
        return device.name

    assert on_all(two(tmp_path, stop), work, stop, print) == ["one", "two"]


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """The signal means what it does at a terminal, also where a shell started the tests aside."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("reason", ["interrupted", "interrupted at once", "a defect"])
def test_nobody_waits_any_more(tmp_path: Path, reason: str, ctrl_c: None) -> None:
    stop, begun, ended = threading.Event(), threading.Barrier(2), list[str]()
    main = threading.main_thread().ident
    assert main is not None

    def work(device: Device) -> None:
        if reason != "interrupted at once":
            begun.wait(20)
        if device.name == "one" and reason == "a defect":
            raise ZeroDivisionError
        if device.name == "one":
            signal.pthread_kill(main, signal.SIGINT)
        try:
            device.pause(60)
        except StoppedError:
            ended.append(device.name)
            raise

    begin = time.monotonic()
    with pytest.raises(ZeroDivisionError if reason == "a defect" else KeyboardInterrupt):
        on_all(two(tmp_path, stop), work, stop, print)
    until(lambda: bool(ended), "the threads")  # one that was being begun is not waited for, and ends as well
    assert time.monotonic() - begin < 20
