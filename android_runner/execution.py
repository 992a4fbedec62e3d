"""Run one job on a device: push what is missing, start, wait, pull, check."""

import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

from tprune.android_runner import journal, package, run_file
from tprune.android_runner.build import Runner
from tprune.android_runner.refusals import DeviceLostError
from tprune.android_runner.run_file import Job
from tprune.android_runner.transport import LOG, STATUS, Device, StoppedError
from tprune.artifact import Artifact
from tprune.errors import MachineError

SLOWEST_SENTENCE = 30.0  # seconds, for the limit of a run
STARTS = 5  # of one run: a device that is lost with each of them is not waited for again
LOSSES = 20  # of the device while one run is waited for

Found = TypeVar("Found")


def execute(
    device: Device,
    runner: Runner,
    bundle: Artifact,
    job: Job,
    sentences: Sequence[Sequence[int]],
    name: str,
    ready: Callable[[], object] = lambda: None,
) -> bytes:
    """Translate sentences on a device: the run's complete journal.

    Args:
        device: Where.
        runner: For the bundle's engine and the device's machine.
        bundle: A bundle.
        job: How to run it.
        sentences: Source ids.
        name: Of the run, one word. Earlier runs are ended, so that they disturb nothing, and removed.
        ready: Called when everything is there and nothing but the start is left to do.

    Raises:
        InputError: Sentences that the bundle cannot take, or no such mode.
        DeviceLostError: The device does not answer any more; what runs there goes on.
        MachineError: The runner fails or takes too long, or the device's disk is full.
    """
    device.clear(package.RUNS)
    device.push(package.files(runner, bundle))
    folder = f"{package.RUNS}/{name}"
    device.make_folder(folder)
    with TemporaryDirectory() as made:
        package.write_run(Path(made), bundle, job, sentences)
        device.push({f"{folder}/{path.name}": path for path in Path(made).iterdir()})
    ready()
    device.start(folder, package.command(runner))
    return collect(device, job, name)


def collect(device: Device, job: Job, name: str) -> bytes:
    """Wait for a run that was started and read its complete journal.

    Raises:
        DeviceLostError: The device does not answer any more; what runs there goes on.
        MachineError: The runner failed or takes too long.
    """
    folder = f"{package.RUNS}/{name}"
    device.wait(folder, longest_seconds(job), job.seconds, [f"{folder}/{run_file.JOURNAL}"])
    return read(device, name, name)


def longest_seconds(job: Job) -> float:
    """How long a job is given, though it goes on and on."""
    return 60 + 2 * job.seconds + SLOWEST_SENTENCE * (job.runs + job.warmup)


def read(device: Device, name: str, program: str) -> bytes:
    """The complete journal of a run that has ended, by the names of the run and of the program that said what it said.

    Raises:
        DeviceLostError: The device does not answer any more.
        MachineError: The runner failed, or the device's disk is full.
    """
    folder = f"{package.RUNS}/{name}"
    try:
        content = device.pull(f"{folder}/{run_file.JOURNAL}")
    except DeviceLostError:
        raise
    except MachineError:  # none was begun
        content = b""
    if not journal.parse(content).complete:
        told = f"{device.folder}/{package.RUNS}/{program}"
        log = device.run(["tail", "-n", "3", f"{told}/{LOG}"])
        ended = device.run(["cat", f"{told}/{STATUS}"]).text.strip()
        status = int(ended) if ended.isascii() and ended.isdigit() else None
        found = journal.parse(content)
        device.refuse_full(folder, found.error or f"the run ended after {len(found.sentences)} sentences")
        journal.finished(content, f"{device.name} {folder}", log.text, status)  # raises
    return content


def execute_steadily(
    device: Device,
    runner: Runner,
    bundle: Artifact,
    job: Job,
    sentences: Sequence[Sequence[int]],
    name: str,
    patience_seconds: float,
    ready: Callable[[], object] = lambda: None,
    begun: Path | None = None,
) -> bytes:
    """Execute, and when the device vanishes wait for it: what was started goes on there, and is read when it is back.

    Args:
        patience_seconds: Longest wait for the device, each time that it vanishes.
        ready: Called directly before each start.
        begun: File here in which the run that is being started is named. The one that an earlier call has named is
            adopted when it is there still, however long that call has been over; None: it is not looked for.

    The other arguments, and the errors, are those of `execute`; a device that stays away is lost, and one that comes
    back without the run again and again, or cannot be held while the run is read, is given up.
    """
    if begun is not None and begun.exists():
        adopted = _adopt(device, job, begun.read_text(encoding="ascii"), patience_seconds)
        if adopted is not None:
            return adopted
    for _ in range(STARTS):
        attempt = f"{name}-{secrets.token_hex(4)}"

        def begin(attempt: str = attempt) -> None:
            ready()
            if begun is not None:
                begun.write_text(attempt, encoding="ascii")

        with ended_when_stopped(device, f"{package.RUNS}/{attempt}"):
            try:
                return execute(device, runner, bundle, job, sentences, attempt, begin)
            except DeviceLostError:
                _wait_for(device, patience_seconds)
            content = _collect_steadily(device, job, attempt, patience_seconds)
        if content is not None:
            return content
    raise _given_up(device)


def _adopt(device: Device, job: Job, name: str, patience_seconds: float) -> bytes | None:
    """The journal of a run that an earlier call has started; None when nothing has become of it."""
    with ended_when_stopped(device, f"{package.RUNS}/{name}"):
        try:
            return _collect_steadily(device, job, name, patience_seconds)
        except (DeviceLostError, StoppedError):
            raise
        except MachineError:
            return None


def _collect_steadily(device: Device, job: Job, name: str, patience_seconds: float) -> bytes | None:
    """The journal of a run that was started; None when the device came back without it."""
    last = None
    for _ in range(LOSSES):
        try:
            state = device.poll(f"{package.RUNS}/{name}")
            if state == "running":
                return collect(device, job, name)
            return None if state == "gone" else read(device, name, name)
        except DeviceLostError as lost:
            last = lost
            _wait_for(device, patience_seconds)
    raise MachineError(
        "the device is lost again and again while a run is waited for",
        where=device.name,
        got=f"{LOSSES} losses, the last one: {last}",
        fix="look at its cable or network; the same command begins this run again and keeps those before it",
    )


@contextmanager
def ended_when_stopped(device: Device, folder: str) -> Iterator[None]:
    """End the program of a folder when it is waited for no more, whatever the reason: else it would go on for hours.

    The device's absence is none: what runs there goes on, and is read when it is back.
    """
    try:
        yield
    except DeviceLostError:
        raise
    except BaseException:
        with suppress(MachineError):
            device.kill(folder)
        raise


def steadily(device: Device, work: Callable[[], Found], patience_seconds: float) -> Found:
    """What `work` gives; when the device vanishes it is waited for, so many seconds each time, and `work` called again.

    Raises:
        DeviceLostError: The device stays away.
        MachineError: It vanishes again and again.
    """
    for _ in range(STARTS):
        try:
            return work()
        except DeviceLostError:
            _wait_for(device, patience_seconds)
    raise _given_up(device)


def _given_up(device: Device) -> MachineError:
    return MachineError(
        "the device loses every run",
        where=device.name,
        got=f"{STARTS} times gone, and the run with it",
        fix="look whether it restarts under load, and at its cable; the same command goes on from here",
    )


def _wait_for(device: Device, seconds: float) -> None:
    limit = time.monotonic() + seconds
    while True:
        try:
            device.run(["true"])
            return
        except DeviceLostError:
            if time.monotonic() > limit:
                raise
            device.pause(min(1.0, seconds / 10))
