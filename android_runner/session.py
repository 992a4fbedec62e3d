"""A device and the passes that were run on it.

Every pass is a process of its own on the device and a file here, so that a session goes on where it was interrupted.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tprune.android_runner import build, execution, journal, run_file
from tprune.android_runner import device as devices
from tprune.android_runner.build import Runner
from tprune.android_runner.device import Facts, Gate
from tprune.android_runner.journal import Journal
from tprune.android_runner.run_file import Job
from tprune.android_runner.transport import Device
from tprune.artifact import Artifact
from tprune.benchmarks.record import Environment
from tprune.delivery_config import DeviceBench
from tprune.errors import MachineError
from tprune.export import description
from tprune.json_file import read_json, write_json

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Pass:
    """One process on the device."""

    journal: Journal
    gate: Gate


class Session:
    """A device and what is measured on it.

    Args:
        device: Where.
        settings: How.
        folder: Existing directory for the passes that are done.
        tell: Gets a line before each pass.
        build_runner: Gives the runner for an engine and a kind of machine.

    Raises:
        DeviceLostError: The device does not answer.
        InputError: No such pinning.
        MachineError: There are no runners for the device.
    """

    def __init__(
        self,
        device: Device,
        settings: DeviceBench,
        folder: Path,
        tell: Tell,
        build_runner: Callable[[str, str], Runner] = build.build,
    ) -> None:
        self.device, self.settings, self.build_runner = device, settings, build_runner
        self._folder, self._tell = folder, tell
        self.facts: Facts = devices.probe(device)
        if self.facts.abi is None:
            raise MachineError(
                "no runner for such a machine",
                where=device.name,
                got=self.facts.machine,
                wanted=" | ".join(build.TARGETS),
            )
        self.cpus = devices.pinning(self.facts, settings.pin)

    def environment(self) -> Environment:
        """The device as it was found when the session began."""
        path = self._folder / "environment.json"
        if not path.exists():
            write_json(path, self.facts.environment().model_dump(mode="json"))
        return Environment.model_validate(read_json(path))

    def run(self, bundle: Artifact, name: str, sentences: Sequence[Sequence[int]], **changes: Any) -> Pass:
        """Run one pass, or read it where it was run before.

        Args:
            bundle: A bundle.
            name: Of the pass: one word.
            sentences: Source ids.
            **changes: Fields of the job: runs, warmup, seconds.

        Raises:
            DeviceLostError: The device vanished and did not come back.
            MachineError: The runner fails.
        """
        done, gated = self._folder / f"{name}.jsonl", self._folder / f"{name}.gate.json"
        if done.exists() and gated.exists() and (found := journal.parse(done.read_bytes())).complete:
            return Pass(found, Gate(**read_json(gated)))
        said = description.read(bundle.path)
        job = Job(run_file.modes(said)[0], self.settings.threads, cpus=self.cpus, **changes)
        assert self.facts.abi is not None
        runner = self.build_runner(said.engine, self.facts.abi)
        gate = execution.steadily(self.device, self._cool_down, self.settings.patience_seconds)
        self._tell(f"{self.device.name}: {name}")
        content = execution.execute_steadily(
            self.device, runner, bundle, job, sentences, name, self.settings.patience_seconds
        )
        write_json(gated, asdict(gate))
        partial = done.with_suffix(".partial")
        partial.write_bytes(content)
        partial.replace(done)
        return Pass(journal.parse(content), gate)

    def _cool_down(self) -> Gate:
        return devices.cool_down(self.device, self.settings.cool_celsius, self.settings.cool_seconds)
