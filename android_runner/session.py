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
from tprune.errors import ArtifactError, MachineError
from tprune.export import description
from tprune.json_file import read_json, write_json

Tell = Callable[[str], None]
SAME = ("kind", "name", "device", "cpu")  # fields of an environment that tell devices apart


@dataclass(frozen=True)
class Pass:
    """One process on the device.

    Attributes:
        journal: What it wrote.
        gate: How the device was found directly before it was started.
    """

    journal: Journal
    gate: Gate


class Session:
    """A device and what is measured on it.

    Args:
        device: Where.
        settings: How.
        folder: Existing directory for the passes that are done, all of one device.
        tell: Gets a line before each pass.
        build_runner: Gives the runner for an engine and a kind of machine.

    Raises:
        DeviceLostError: The device does not answer.
        InputError: No such pinning.
        ArtifactError: What is in the folder was begun on another device, whatever name it was reached by.
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
        self.folder, self._tell = folder, tell
        self.facts: Facts = devices.probe(device)
        if self.facts.abi is None:
            raise MachineError(
                "no runner for such a machine",
                where=device.name,
                got=self.facts.machine,
                wanted=" | ".join(build.TARGETS),
            )
        self.cpus = devices.pinning(self.facts, settings.pin)
        self._refuse_another()

    def environment(self) -> Environment:
        """The device as it was found when the first session in the folder began."""
        if not self._begun.exists():
            write_json(self._begun, self.facts.environment().model_dump(mode="json"))
        return Environment.model_validate(read_json(self._begun))

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
            StoppedError: Nothing more is wanted of the device; what ran there was ended.
        """
        done, gated = self.folder / f"{name}.jsonl", self.folder / f"{name}.gate.json"
        if done.exists() and gated.exists() and (found := journal.parse(done.read_bytes())).complete:
            return Pass(found, self._gate(gated))
        said = description.read(bundle.path)
        job = Job(run_file.modes(said)[0], self.settings.threads, cpus=self.cpus, **changes)
        assert self.facts.abi is not None
        self.device.pause(0)
        runner = self.build_runner(said.engine, self.facts.abi)
        self._tell(f"{self.device.name}: {name}")
        begun = self.folder / f"{name}.begun"
        content = execution.execute_steadily(
            self.device, runner, bundle, job, sentences, name, self.settings.patience_seconds,
            lambda: write_json(gated, asdict(self._cool_down())),  # the run that counts is the last that was started
            begun,
        )  # fmt: skip
        partial = done.with_suffix(".partial")
        partial.write_bytes(content)
        partial.replace(done)
        begun.unlink(missing_ok=True)
        return Pass(journal.parse(content), self._gate(gated))

    @property
    def _begun(self) -> Path:
        return self.folder / "environment.json"

    def _refuse_another(self) -> None:
        if not self._begun.exists():
            return
        begun, found = self.environment().model_dump(), self.facts.environment().model_dump()
        if other := [f"{field} {begun[field]}, now {found[field]}" for field in SAME if begun[field] != found[field]]:
            raise ArtifactError(
                "begun on another device",
                where=self.folder,
                problems=other,
                fix="connect that one, or delete the folder to begin again",
            )

    def _gate(self, path: Path) -> Gate:
        return Gate(**read_json(path)).judged(self.settings.cool_celsius)

    def _cool_down(self) -> Gate:
        return devices.cool_down(self.device, self.settings.cool_celsius, self.settings.cool_seconds)
