"""Run one job on a device: push what is missing, start, wait, pull, check."""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from tprune.android_runner import journal, package, run_file
from tprune.android_runner.build import Runner
from tprune.android_runner.journal import Journal
from tprune.android_runner.run_file import Job
from tprune.android_runner.transport import LOG, Device
from tprune.artifact import Artifact

SLOWEST_SENTENCE = 30.0  # seconds, for the limit of a run


def execute(
    device: Device, runner: Runner, bundle: Artifact, job: Job, sentences: Sequence[Sequence[int]], name: str
) -> Journal:
    """Translate sentences on a device.

    Args:
        device: Where.
        runner: For the bundle's engine and the device's machine.
        bundle: A bundle.
        job: How to run it.
        sentences: Source ids.
        name: Of the run, one word; an unfinished one of that name is ended and replaced.

    Raises:
        InputError: Sentences that the bundle cannot take, or no such mode.
        DeviceLostError: The device does not answer any more; what runs there goes on.
        MachineError: The runner fails or takes too long, or the device's disk is full.
    """
    device.push(package.files(runner, bundle))
    folder = f"{package.RUNS}/{name}"
    device.make_folder(folder)
    device.kill(folder)
    with TemporaryDirectory() as made:
        package.write_run(Path(made), bundle, job, sentences)
        device.push({f"{folder}/{file}": Path(made) / file for file in (run_file.RUN, run_file.SENTENCES)})
    device.start(folder, package.command(runner))
    return collect(device, folder, 60 + job.seconds + SLOWEST_SENTENCE * (job.runs + job.warmup))


def collect(device: Device, folder: str, seconds: float) -> Journal:
    """Wait for the run of a folder and read what it wrote.

    Raises:
        DeviceLostError: The device does not answer any more; what runs there goes on.
        MachineError: The runner failed or takes too long.
    """
    device.wait(folder, seconds)
    where = f"{device.name} {folder}"
    written = device.run(["cat", f"{device.folder}/{folder}/{run_file.JOURNAL}"], seconds=120)
    log = device.run(["tail", "-n", "3", f"{device.folder}/{folder}/{LOG}"])
    return journal.finished(b"" if written.status else written.output, where, log.text)
